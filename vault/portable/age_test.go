package portable

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"image/color"
	"io"
	"slices"
	"strings"
	"testing"

	"filippo.io/age"
	"filippo.io/age/armor"
	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/avouch-dev/avouch/internal/secret"
)

const passphrase = "correct horse battery"

// light is scrypt's work in tests that are not about it.
const light = 5

var lightLine = []byte(" 5\n") // in the header

func three(t testing.TB) []Entry {
	return []Entry{
		entryOf(t, "otpauth://totp/A:b?secret="+hello), {Kind: Codes, Title: "Backup", Codes: []Code{{secret.Text("first-code"), true}}},
		{Kind: Secret, Title: "Token", Key: secret.Own([]byte("sk-live-0123456789"))},
	}
}

// unsealed is what the library alone makes of it.
func unsealed(data []byte, id age.Identity) ([]byte, error) {
	r, err := age.Decrypt(armor.NewReader(bytes.NewReader(data)), id)
	if err != nil {
		return nil, err
	}
	return io.ReadAll(r)
}

func shows(data []byte) bool {
	for _, s := range []string{hello, helloBytes, hex.EncodeToString([]byte(helloBytes)), base64.StdEncoding.EncodeToString([]byte(helloBytes)), "first-code", "sk-live", "Backup", "otpauth", "kind", avouchVersion} {
		if bytes.Contains(data, []byte(s)) {
			return true
		}
	}
	return false
}

func TestRecipients(t *testing.T) {
	t.Parallel()
	one, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	two, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	hybrid, err := age.GenerateHybridIdentity()
	if err != nil {
		t.Fatal(err)
	}
	stranger, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		to   []string
		open []age.Identity
	}{{[]string{one.Recipient().String()}, []age.Identity{one}}, {[]string{" " + one.Recipient().String() + "\n", two.Recipient().String()}, []age.Identity{one, two}}, {[]string{hybrid.Recipient().String()}, []age.Identity{hybrid}}} {
		for _, f := range Written() {
			entries := three(t)
			if f != FormatAvouch {
				entries = entries[:1]
			}
			want, err := Write(f, entries, inClear)
			if err != nil {
				t.Fatal(err)
			}
			data, err := Write(f, entries, Protection{Recipients: c.to})
			if err != nil || shows(data) || !bytes.HasPrefix(data, []byte(armor.Header)) {
				t.Fatalf("%s to %d: %v\n%s", f, len(c.to), err, data)
			}
			for _, id := range c.open {
				if got, err := unsealed(data, id); err != nil || !bytes.Equal(got, want) {
					t.Errorf("%s: %v\n%s", f, err, got)
				}
			}
			if _, err := unsealed(data, stranger); err == nil {
				t.Error("a stranger opens it")
			}
			if g := Guess(data); g != FormatAge {
				t.Errorf("it is taken for %q", g)
			}
			if _, err := Read(context.Background(), FormatAge, data, secret.Text(passphrase)); !errors.Is(err, ErrFormat) || !strings.Contains(err.Error(), "keys of age") {
				t.Errorf("read with a passphrase: %v", err)
			}
		}
	}
}

// TestPassphrase is with the work that the program age does as well.
func TestPassphrase(t *testing.T) {
	t.Parallel()
	data, err := Write(FormatAvouch, three(t), Protection{Passphrase: secret.Text(passphrase)})
	if err != nil || shows(data) {
		t.Fatal(err)
	}
	binary, err := io.ReadAll(armor.NewReader(bytes.NewReader(data)))
	if header, _, _ := bytes.Cut(binary, []byte("---")); err != nil || !bytes.Contains(header, []byte(" 18\n")) {
		t.Errorf("the header is %q, %v", header, err)
	}
	r, err := Read(context.Background(), FormatAge, data, secret.Text(passphrase))
	if err != nil || len(r.Entries) != 3 || !cmp.Equal(shown(r.Entries[2]), shown(three(t)[2])) {
		t.Errorf("%+v, %v", all(r), err)
	}
}

// TestSealed: what is written in any format is read again, and what was altered is not.
func TestSealed(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		entries := rapid.SliceOfN(rapid.Custom(drawKept), 1, 4).Draw(t, "entries")
		f := rapid.SampledFrom(Written()).Draw(t, "format")
		entries = slices.DeleteFunc(entries, func(e Entry) bool { return Holds(f, e) != nil })
		want, err := Write(f, entries, inClear)
		if err != nil {
			return // nothing is left
		}
		plain, err := Read(context.Background(), f, want, secret.String{})
		if err != nil {
			t.Fatal(err)
		}
		data, err := write(f, entries, Protection{Passphrase: secret.Text(passphrase)}, light)
		if err != nil {
			t.Fatal(err)
		}
		r, err := Read(context.Background(), FormatAge, data, secret.Text(passphrase))
		if d := cmp.Diff(all(plain), all(r)); err != nil || d != "" {
			t.Fatal(err, d)
		}
		id, err := age.NewScryptIdentity(passphrase)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := unsealed(data, id); err != nil || !bytes.Equal(got, want) {
			t.Fatalf("the library reads %s, %v", got, err)
		}
		binary, err := io.ReadAll(armor.NewReader(bytes.NewReader(data)))
		if err != nil {
			t.Fatal(err)
		}
		if r, err := Read(context.Background(), Guess(binary), binary, secret.Text(passphrase)); err != nil || !cmp.Equal(all(plain), all(r)) {
			t.Fatal(err)
		}
		altered := bytes.Clone(binary)
		altered[rapid.IntRange(0, len(altered)-1).Draw(t, "at")] ^= 1 << rapid.IntRange(0, 7).Draw(t, "bit")
		if bytes.Contains(altered, lightLine) { // or it would be another work, and take long
			if r, err := Read(context.Background(), FormatAge, altered, secret.Text(passphrase)); err == nil || len(r.Entries)+len(r.Faults) > 0 {
				t.Fatalf("what was altered is read: %v", err)
			}
		}
		if _, err := Read(context.Background(), FormatAge, binary[:rapid.IntRange(0, len(binary)-1).Draw(t, "end")], secret.Text(passphrase)); err == nil {
			t.Fatal("what was cut off is read")
		}
	})
}

func TestProtection(t *testing.T) {
	t.Parallel()
	id, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	hybrid, err := age.GenerateHybridIdentity()
	if err != nil {
		t.Fatal(err)
	}
	key, other := id.Recipient().String(), hybrid.Recipient().String()
	for name, p := range map[string]Protection{
		"none": {}, "clear and a recipient": {Clear: true, Recipients: []string{key}}, "clear and a passphrase": {Clear: true, Passphrase: secret.Text(passphrase)},
		"both": {Recipients: []string{key}, Passphrase: secret.Text(passphrase)}, "a short passphrase": {Passphrase: secret.Text("short")}, "an empty list": {Recipients: []string{}},
		"an empty recipient": {Recipients: []string{""}}, "a broken one": {Recipients: []string{key[:len(key)-1]}}, "one of two": {Recipients: []string{key, "age1x"}}, "an SSH key": {Recipients: []string{"ssh-ed25519 AAAA"}},
		"a plugin's": {Recipients: []string{"age1yubikey1qwt50d05nh5vutpdzmlg5wn80xq5negm4uj9ghv0snvdd3yysf5yw3rhl3t"}}, "a private key": {Recipients: []string{id.String()}}, "two lines": {Recipients: []string{key + "\n" + key}},
		"mixed": {Recipients: []string{key, other}}, "too many": {Recipients: make([]string, mostRecipients+1)}, "too long": {Recipients: []string{strings.Repeat("a", 1<<20)}},
	} {
		data, err := Write(FormatAvouch, three(t), p)
		if !errors.Is(err, ErrWrite) || len(data) > 0 || p.Check() == nil {
			t.Errorf("%s: %v, %d bytes", name, err, len(data))
		} else if strings.Contains(err.Error(), id.String()[20:30]) || strings.Contains(err.Error(), "horse") || len(err.Error()) > 200 {
			t.Errorf("%s tells %v", name, err)
		}
	}
}

func TestAgeFaults(t *testing.T) {
	t.Parallel()
	protected := Protection{Passphrase: secret.Text(passphrase)}
	seal := func(plain string) []byte {
		data, err := protected.sealed([]byte(plain), light)
		if err != nil {
			t.Fatal(err)
		}
		return data
	}
	good := "otpauth://totp/A:b?secret=" + hello
	for _, inner := range []string{good, "name,secret\nA," + hello, string(file(t, "aegis.json")), string(onPNG(t, paper(400, 400, color.White, code(t, good, 300))))} {
		if r, err := Read(context.Background(), FormatAge, append([]byte("\n "), seal(inner)...), secret.Text(passphrase)); err != nil || len(r.Entries) == 0 || !r.Sealed {
			t.Errorf("%.20q within: %v", inner, err)
		}
	}
	for _, inner := range []string{string(seal(good)), "hello"} {
		if _, err := Read(t.Context(), FormatAge, seal(inner), secret.Text(passphrase)); err == nil || !strings.Contains(err.Error(), "of no format that is read") {
			t.Errorf("%.20q within: %v", inner, err)
		}
	}
	costly := seal(good)
	binary, err := io.ReadAll(armor.NewReader(bytes.NewReader(costly)))
	if err != nil {
		t.Fatal(err)
	}
	other, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	toKey, err := Protection{Recipients: []string{other.Recipient().String()}}.sealed([]byte(good), light) // which no passphrase opens
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		data       []byte
		passphrase string
		want       error
	}{
		"no passphrase": {seal(good), "", ErrEncrypted}, "another": {seal(good), "correct horse batter", ErrPassword}, "no age": {[]byte(good), passphrase, ErrFormat}, "empty": {nil, passphrase, ErrFormat},
		"much work": {bytes.Replace(binary, lightLine, []byte(" 19\n"), 1), passphrase, ErrFormat}, "absurd work": {bytes.Replace(binary, lightLine, []byte(" 99\n"), 1), passphrase, ErrFormat},
		"nonsense within": {seal("hello"), passphrase, ErrFormat}, "age within age": {seal(string(seal(good))), passphrase, ErrFormat}, "encrypted within": {seal(string(file(t, "aegis-encrypted.json"))), passphrase, ErrFormat},
		"to a key":      {toKey, "", ErrFormat},
		"only an intro": {[]byte(ageIntro + "\n"), passphrase, ErrFormat}, "broken armor": {costly[:len(costly)-60], passphrase, ErrFormat}, "large": {append([]byte(ageIntro), make([]byte, 2*MostBytes)...), passphrase, ErrFormat},
	} {
		if r, err := Read(context.Background(), FormatAge, c.data, secret.Text(c.passphrase)); !errors.Is(err, c.want) || len(r.Entries)+len(r.Faults) > 0 || strings.Contains(err.Error(), "horse") {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
}

func FuzzAge(f *testing.F) {
	id, err := age.GenerateX25519Identity()
	if err != nil {
		f.Fatal(err)
	}
	data, err := Write(FormatURI, []Entry{entryOf(f, "otpauth://totp/A:b?secret="+hello)}, Protection{Recipients: []string{id.Recipient().String()}})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(data)
	f.Add([]byte(ageIntro + "\n-> X25519 a\nb\n--- c\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		if bytes.Contains(data, []byte("-> scrypt")) || bytes.Contains(data, []byte("LT4gc2NyeXB0")) {
			t.Skip("skipped: each passphrase that is tried takes a second")
		}
		if r, err := Read(context.Background(), FormatAge, data, secret.Text(passphrase)); err == nil {
			t.Errorf("%q is read as %+v", data, all(r))
		}
	})
}
