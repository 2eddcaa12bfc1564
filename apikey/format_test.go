package apikey

import (
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"
)

// The vectors were made by another program, in another language.
type vectors struct {
	Valid []struct {
		Kind                          Kind
		Live                          bool
		ID, Secret, Key, Prefix, Hint string
	}
	Invalid []struct{ Why, Key string }
}

func readVectors(t testing.TB) (v vectors) {
	t.Helper()
	b, err := os.ReadFile("testdata/vectors.json")
	if err == nil {
		err = json.Unmarshal(b, &v)
	}
	if err != nil || len(v.Valid) == 0 || len(v.Invalid) == 0 {
		t.Fatalf("no vectors: %v", err)
	}
	return v
}

func TestVectors(t *testing.T) {
	t.Parallel()
	v := readVectors(t)
	for _, w := range v.Valid {
		id, err := hex.DecodeString(w.ID)
		if err != nil {
			t.Fatal(err)
		}
		secret, err := hex.DecodeString(w.Secret)
		if err != nil {
			t.Fatal(err)
		}
		if got := compose(w.Kind, w.Live, binary.BigEndian.Uint64(id), secret); got != w.Key {
			t.Errorf("composed %s, not %s", got, w.Key)
		}
		p, err := Parse(w.Key)
		if err != nil || p.Kind != w.Kind || p.Live != w.Live || p.ID != w.Key[9:20] || p.Hint != w.Hint {
			t.Errorf("%s: %+v, %v", w.Key, p, err)
		}
		if k := (Key{Kind: w.Kind, Live: w.Live}); k.Prefix() != w.Prefix || w.Prefix != w.Key[:8] {
			t.Errorf("the prefix of %s is %s", w.Key, k.Prefix())
		}
	}
	for _, w := range v.Invalid {
		if p, err := Parse(w.Key); err != ErrForm || p != (Parsed{}) {
			t.Errorf("%s: %+v, %v", w.Why, p, err)
		}
	}
}

func TestMistypedKeys(t *testing.T) {
	t.Parallel()
	key, _ := mint(Service, true)
	raw := key.Expose()
	if _, err := Parse(raw); err != nil {
		t.Fatalf("a new key does not parse: %v", err)
	}
	for i := range raw {
		for _, c := range []byte(digits + "_- \x00\xff") {
			if c == raw[i] {
				continue
			}
			if _, err := Parse(raw[:i] + string([]byte{c}) + raw[i+1:]); err == nil {
				t.Fatalf("another character at %d goes unnoticed", i)
			}
		}
		if _, err := Parse(raw[:i]); err == nil {
			t.Fatalf("cut off at %d goes unnoticed", i)
		}
		if i > 0 && raw[i] != raw[i-1] {
			if _, err := Parse(raw[:i-1] + string([]byte{raw[i], raw[i-1]}) + raw[i+1:]); err == nil {
				t.Fatalf("swapped at %d goes unnoticed", i)
			}
		}
	}
}

func TestMint(t *testing.T) {
	t.Parallel()
	seen := map[string]bool{}
	for range 500 {
		for _, kind := range []Kind{Owner, Service} {
			key, p := mint(kind, true)
			got, err := Parse(key.Expose())
			if err != nil || got != p {
				t.Fatalf("minted as %+v, parsed as %+v, %v", p, got, err)
			}
			if seen[p.ID] {
				t.Fatal("an id came twice")
			}
			seen[p.ID] = true
			if s := fmt.Sprintf("%v %+v %#v %s", key, key, key, p.Hint); strings.Contains(s, key.Expose()[21:64]) {
				t.Fatal("printing a key tells its secret")
			}
		}
	}
}

func FuzzParse(f *testing.F) {
	v := readVectors(f)
	for _, w := range v.Valid {
		f.Add(w.Key)
	}
	for _, w := range v.Invalid {
		f.Add(w.Key)
	}
	f.Fuzz(func(t *testing.T, raw string) {
		p, err := Parse(raw)
		if err != nil {
			if p != (Parsed{}) {
				t.Error("a refused key tells something")
			}
			return
		}
		if len(raw) != keySize || raw != tag(p.Kind, p.Live)+p.ID+raw[20:] || checksum(raw[:64]) != raw[64:] {
			t.Errorf("%q passes as %+v", raw, p)
		}
	})
}

func TestScanners(t *testing.T) {
	t.Parallel()
	for file, pattern := range map[string]string{"gitleaks.toml": `regex = '''(.*)'''`, "trufflehog.yaml": `key: '(.*)'`} {
		b, err := os.ReadFile("scanning/" + file)
		if err != nil {
			t.Fatal(err)
		}
		m := regexp.MustCompile(pattern).FindSubmatch(b)
		if m == nil {
			t.Fatalf("%s has no rule", file)
		}
		rule := regexp.MustCompile(string(m[1]))
		keys := allKinds()
		for _, w := range readVectors(t).Valid {
			keys = append(keys, w.Key)
		}
		for _, key := range keys {
			for _, text := range []string{
				key, `KEY="` + key + `"`, "curl -H 'X-API-Key: " + key + "' https://x", `{"log":"\n` + key + `\n"}`, "?q=key%3D" + key + "%26", "my_" + key + "_old",
			} {
				if rule.FindString(text) != key || len(scanned(t, strings.NewReader(text))) != 1 {
					t.Errorf("%s or Scan does not find the key in %s", file, text)
				}
			}
			if rule.MatchString(hint(key)) {
				t.Errorf("%s takes a hint for a key", file)
			}
			if !strings.Contains(string(b), key[:9]) {
				t.Errorf("%s lacks the keyword %s", file, key[:9])
			}
		}
	}
}
