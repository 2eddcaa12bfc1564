package password

import (
	"encoding/hex"
	"strings"
	"testing"
)

// TestReferenceHashes are vectors of Argon2's reference implementation (test.c) and of PBKDF2-HMAC-SHA-256: of "password".
func TestReferenceHashes(t *testing.T) {
	t.Parallel()
	for _, text := range []string{
		"$argon2id$v=19$m=256,t=2,p=1$c29tZXNhbHQ$nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4",
		"$argon2id$v=19$m=256,t=2,p=2$c29tZXNhbHQ$bQk8UB/VmZZF4Oo79iDXuL5/0ttZwg2f/5U52iv1cDc",
		"$argon2id$v=19$m=65536,t=1,p=1$c29tZXNhbHQ$9qWtwbpyPd3vm1rB1GThgPzZ3/ydHL92zKL+15XZypg",
		"$argon2id$v=19$m=65536,t=2,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc",
		"$argon2id$v=19$m=65536,t=4,p=1$c29tZXNhbHQ$kCXUjmjvc5XMqQedpMTsOv+zyJEf5PhtGiUghW9jFyw",
	} {
		p, err := parsePHC(text)
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		sum, err := p.derive([]byte("password"))
		if must(t, err); !p.equal(sum) || p.equal(sum[:31]) {
			t.Errorf("%s: the hash is %x", text, sum)
		}
		if sum, err = p.derive([]byte("Password")); err != nil || p.equal(sum) {
			t.Errorf("%s: another password has it", text)
		}
	}
	for passes, want := range map[uint32]string{
		1:    "120fb6cffcf8b32c43e7225256c4f837a86548c92ccc35480805987cb70be17b",
		4096: "c5e478d59288c841aa530db6845c4c8d962893a001ce4e11a4963873aa98134a",
	} {
		sum, err := phc{scheme: scheme{name: pbkdf2SHA256, passes: passes, size: 32}, salt: []byte("salt")}.derive([]byte("password"))
		if got := hex.EncodeToString(sum); err != nil || got != want {
			t.Errorf("PBKDF2 with %d: %s, %v", passes, got, err)
		}
	}
}

// TestSchemes holds what new hashes are made by: OWASP's and the promise of docs/seeds.md.
func TestSchemes(t *testing.T) {
	t.Parallel()
	salt, sum := make([]byte, saltSize), make([]byte, 32)
	for want, s := range map[string]scheme{
		"$argon2id$v=19$m=65536,t=3,p=1$": New(Config{}).want,
		"$pbkdf2-sha256$i=600000,l=32$":   New(Config{FIPS: true}).want,
	} {
		text := phc{s, salt, sum}.String()
		if !strings.HasPrefix(text, want) {
			t.Errorf("new hashes are %s", text)
		}
		if p, err := parsePHC(text); err != nil || p.scheme != s {
			t.Errorf("%s reads as %+v, %v", text, p.scheme, err)
		}
	}
}

func TestStrictPHC(t *testing.T) {
	t.Parallel()
	const salt, sum = "c29tZXNhbHQ", "nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4"
	good := "$argon2id$v=19$m=256,t=2,p=1$" + salt + "$" + sum
	_, err := parsePHC(good)
	must(t, err)
	_, err = parsePHC("$pbkdf2-sha256$i=600000,l=32$" + salt + "$" + sum)
	must(t, err)
	for why, text := range map[string]string{
		"empty": "", "another kind": strings.Replace(good, "argon2id", "argon2i", 1), "no version": strings.Replace(good, "$v=19", "", 1),
		"an old version": strings.Replace(good, "19", "16", 1), "too much memory": strings.Replace(good, "m=256", "m=65537", 1),
		"much too much memory": strings.Replace(good, "m=256", "m=4294967296", 1), "too little memory": strings.Replace(good, "m=256,t=2,p=1", "m=31,t=2,p=4", 1),
		"too many passes": strings.Replace(good, "t=2", "t=11", 1), "no passes": strings.Replace(good, "t=2", "t=0", 1), "no lanes": strings.Replace(good, "p=1", "p=0", 1),
		"too many lanes": strings.Replace(good, "p=1", "p=5", 1), "lanes that wrap": strings.Replace(good, "p=1", "p=257", 1), "a zero before": strings.Replace(good, "m=256", "m=0256", 1),
		"a sign": strings.Replace(good, "m=256", "m=+256", 1), "a space": strings.Replace(good, "m=256", "m= 256", 1), "another order": strings.Replace(good, "m=256,t=2", "t=2,m=256", 1),
		"one more": strings.Replace(good, "p=1", "p=1,keyid=a", 1), "padding": good + "=", "a line end": good + "\n", "a line end inside": strings.Replace(good, salt, salt[:4]+"\n"+salt[4:], 1),
		"bits that count nothing": strings.Replace(good, sum, sum[:42]+"5", 1), "URL's base64": strings.Replace(good, "/", "_", 1), "a short salt": strings.Replace(good, salt, "c29tZXM", 1),
		"a short hash": strings.Replace(good, sum, sum[:20], 1), "a part more": good + "$", "a long one": good + strings.Repeat("A", 600),
		"too many iterations": "$pbkdf2-sha256$i=2000001,l=32$" + salt + "$" + sum, "none": "$pbkdf2-sha256$i=0,l=32$" + salt + "$" + sum,
		"another length": "$pbkdf2-sha256$i=1000,l=31$" + salt + "$" + sum,
	} {
		if p, err := parsePHC(text); err == nil {
			t.Errorf("%s is taken: %s as %+v", why, text, p.scheme)
		}
	}
}

func FuzzPHC(f *testing.F) {
	f.Add("$argon2id$v=19$m=256,t=2,p=1$c29tZXNhbHQ$nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4")
	f.Add("$pbkdf2-sha256$i=600000,l=32$c29tZXNhbHQ$nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4")
	f.Add("$argon2id$v=19$m=65536,t=3,p=1$$")
	f.Fuzz(func(t *testing.T, text string) {
		p, err := parsePHC(text)
		if err != nil {
			return
		}
		if p.String() != text {
			t.Errorf("%q is written %q", text, p.String())
		}
		if p.memory > 64<<10 || p.lanes > 4 || p.passes == 0 || p.name == argon2id && p.passes > 10 || p.passes > 2_000_000 || len(p.salt) > 64 || len(p.sum) > 64 || len(p.sum) < 16 {
			t.Errorf("%q is out of bounds", text)
		}
	})
}
