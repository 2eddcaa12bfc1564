package otp

import (
	"bytes"
	"encoding/base32"
	"math"
	"net/url"
	"strings"
	"testing"
	"time"

	oracle "github.com/pquerna/otp"
	"github.com/pquerna/otp/hotp"
	"github.com/pquerna/otp/totp"
	"pgregory.net/rapid"
)

func TestVectorsOfRFC4226(t *testing.T) {
	t.Parallel()
	key := []byte("12345678901234567890")
	for n, want := range []string{"755224", "287082", "359152", "969429", "338314", "254676", "287922", "162583", "399871", "520489"} {
		if got := Usual().Code(key, uint64(n)); got != want {
			t.Errorf("counter %d: %s, want %s", n, got, want)
		}
	}
}

func TestVectorsOfRFC6238(t *testing.T) {
	t.Parallel()
	digits := strings.Repeat("1234567890", 7)
	keys := map[Algorithm][]byte{SHA1: []byte(digits[:20]), SHA256: []byte(digits[:32]), SHA512: []byte(digits[:64])}
	for at, want := range map[int64][3]string{
		59:          {"94287082", "46119246", "90693936"},
		1111111109:  {"07081804", "68084774", "25091201"},
		1111111111:  {"14050471", "67062674", "99943326"},
		1234567890:  {"89005924", "91819424", "93441116"},
		2000000000:  {"69279037", "90698825", "38618901"},
		20000000000: {"65353130", "77737706", "47863826"},
	} {
		for i, a := range []Algorithm{SHA1, SHA256, SHA512} {
			s := Scheme{a, 8, 30}
			if got := s.Code(keys[a], uint64(s.Step(time.Unix(at, 0)))); got != want[i] {
				t.Errorf("%d, %s: %s, want %s", at, a, got, want[i])
			}
		}
	}
}

func TestAnotherImplementationAgrees(t *testing.T) {
	t.Parallel()
	others := map[Algorithm]oracle.Algorithm{SHA1: oracle.AlgorithmSHA1, SHA256: oracle.AlgorithmSHA256, SHA512: oracle.AlgorithmSHA512}
	rapid.Check(t, func(t *rapid.T) {
		s := Scheme{rapid.SampledFrom([]Algorithm{SHA1, SHA256, SHA512}).Draw(t, "algorithm"), rapid.IntRange(6, 9).Draw(t, "digits"), rapid.Int64Range(1, 3600).Draw(t, "period")}
		key := rapid.SliceOfN(rapid.Byte(), 1, 100).Draw(t, "key")
		at := time.Unix(rapid.Int64Range(0, 1<<40).Draw(t, "at"), 0)
		text := base32.StdEncoding.EncodeToString(key)
		want, err := totp.GenerateCodeCustom(text, at, totp.ValidateOpts{Period: uint(s.Period), Digits: oracle.Digits(s.Digits), Algorithm: others[s.Algorithm]})
		if err != nil {
			t.Fatal(err)
		}
		if got := s.Code(key, uint64(s.Step(at))); got != want {
			t.Errorf("%v at %v: %s, want %s", s, at, got, want)
		}
		counter := rapid.Uint64().Draw(t, "counter")
		want, err = hotp.GenerateCodeCustom(text, counter, hotp.ValidateOpts{Digits: oracle.Digits(s.Digits), Algorithm: others[s.Algorithm]})
		if err != nil {
			t.Fatal(err)
		}
		if got := s.Code(key, counter); got != want {
			t.Errorf("%v at %d: %s, want %s", s, counter, got, want)
		}
	})
}

// Ten digits are more than the truncated 31 bits hold, and 10^10 more than 32 bits do: the code is the number itself.
func TestTenDigits(t *testing.T) {
	t.Parallel()
	ten, nine := Scheme{SHA1, 10, 30}, Scheme{SHA1, 9, 30}
	large := false
	for n := range uint64(64) {
		code := ten.Code([]byte("key"), n)
		if len(code) != 10 || code[1:] != nine.Code([]byte("key"), n) || code[0] > '2' {
			t.Errorf("counter %d: %s and %s", n, code, nine.Code([]byte("key"), n))
		}
		large = large || code[0] != '0'
	}
	if !large {
		t.Error("no code uses its tenth digit")
	}
}

func TestStepsFarAway(t *testing.T) {
	t.Parallel()
	s := Scheme{SHA1, 6, 1}
	far := time.Unix(math.MaxInt32*8, 0)
	if n := s.Step(far); n != math.MaxInt32*8 {
		t.Errorf("step %d", n)
	}
	if s.Step(time.Unix(-1, 0)) != 0 {
		t.Error("there are steps before 1970")
	}
	if step, ok := s.Match([]byte("k"), s.Code([]byte("k"), math.MaxInt32*8), far, 1, 0); !ok || step != math.MaxInt32*8 {
		t.Errorf("matched %d, %v", step, ok)
	}
}

func TestSkew(t *testing.T) {
	t.Parallel()
	s, key, now := Usual(), []byte("12345678901234567890"), time.Unix(1_700_000_010, 0)
	for off, want := range map[int64]bool{-2: false, -1: true, 0: true, 1: true, 2: false} {
		n := s.Step(now) + off
		if step, ok := s.Match(key, s.Code(key, uint64(n)), now, 1, 0); ok != want || ok && step != n {
			t.Errorf("%d steps off: %d, %v", off, step, ok)
		}
	}
	for _, code := range []string{"", "1", "12345", "1234567", "абвгде", strings.Repeat("1", 1000)} {
		if _, ok := s.Match(key, code, now, 1, 0); ok {
			t.Errorf("%q is a code", code)
		}
	}
}

func TestNoStepTwice(t *testing.T) {
	t.Parallel()
	s, key, now := Usual(), []byte("12345678901234567890"), time.Unix(1_700_000_010, 0)
	n := s.Step(now)
	for last, want := range map[int64]bool{n - 2: true, n - 1: true, n: false, n + 1: false} {
		if _, ok := s.Match(key, s.Code(key, uint64(n)), now, 1, last); ok != want {
			t.Errorf("after step %+d it is %v", last-n, ok)
		}
	}
}

func TestSchemes(t *testing.T) {
	t.Parallel()
	for s, want := range map[Scheme]bool{
		Usual(): true, {SHA512, 10, 1}: true, {SHA256, 5, 30}: false, {SHA256, 11, 30}: false, {SHA1, 6, 0}: false, {"MD5", 6, 30}: false, {}: false,
	} {
		if (s.Check() == nil) != want {
			t.Errorf("%+v: %v", s, s.Check())
		}
	}
}

func TestURI(t *testing.T) {
	t.Parallel()
	key := bytes.Repeat([]byte{0xa5}, 20)
	for _, name := range []string{"ada@example.com", "a&secret=AAAA&x=", "a b+c", "a:b", "a/b?c#d", "ünïcode", ""} {
		k, err := oracle.NewKeyFromURL(Usual().URI("Avouch & Co: x", name, key))
		if err != nil {
			t.Errorf("%q: %v", name, err)
			continue
		}
		u, _ := url.Parse(k.URL())
		if k.Secret() != base32.StdEncoding.EncodeToString(key) || k.Issuer() != "Avouch & Co  x" || k.AccountName() != strings.ReplaceAll(name, ":", " ") ||
			k.Type() != "totp" || k.Period() != 30 || k.Digits() != 6 || len(u.Query()) != 5 {
			t.Errorf("%q: %s", name, k.URL())
		}
	}
	if got := Text([]byte("12345678901234567890")); got != "GEZD GNBV GY3T QOJQ GEZD GNBV GY3T QOJQ" {
		t.Error(got)
	}
}
