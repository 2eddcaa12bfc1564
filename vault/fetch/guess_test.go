package fetch

import (
	"encoding/base32"
	"encoding/base64"
	"encoding/hex"
	"io"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/avouch-dev/avouch/internal/secret"
)

// TestCutOffTellsNothing: an agent that can lay a text of its own across the cut (a file that it keeps at the host) must not see how much
// of the secret it has guessed.
func TestCutOffTellsNothing(t *testing.T) {
	t.Parallel()
	m := newMask([]byte(token))
	for syntax, write := range syntaxes {
		for encoding, encode := range encodings {
			form := write(encode(token))
			for guessed := range len(form) - 8 {
				guess := form[:guessed] + "!!!!!!!!"
				if _, n := m.text(guess + guess); n > 0 {
					continue // all that counts was guessed
				}
				for _, most := range []int{guessed, guessed + 1, guessed / 2, len(guess) - 1} {
					if got, err := io.ReadAll(m.reader(strings.NewReader(guess+guess), int64(most))); err != nil || string(got) != (guess + guess)[:most] {
						t.Errorf("%d letters of %s in %s, cut off after %d: %q, %v", guessed, encoding, syntax, most, got, err)
					}
				}
			}
		}
	}
}

// random is a text of so many letters and digits, the same each time.
func random(size int) string {
	from := rand.New(rand.NewPCG(1, 2))
	b := make([]byte, size)
	for i := range b {
		b[i] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"[from.IntN(62)]
	}
	return string(b)
}

// TestOneGuess: of what is masked, a guess tells whether the whole secret was guessed, but for four bits at each end in base64 and base32.
func TestOneGuess(t *testing.T) {
	t.Parallel()
	const s = "q7V2k9WmXpF"
	m := newMask([]byte(s))
	most := 0
	for at := range s {
		if _, n := m.text(s[:at] + s[at+1:]); n > 0 {
			t.Errorf("without its letter %d it is masked", at)
		}
		for bit := range 8 {
			guess := []byte(s)
			guess[at] ^= 1 << bit
			found := 0
			for _, encode := range []func([]byte) string{base64.StdEncoding.EncodeToString, base32.StdEncoding.EncodeToString, hex.EncodeToString, func(b []byte) string { return string(b) }} {
				for before := range 5 {
					if _, n := m.text(encode(append(make([]byte, before), guess...))); n > 0 {
						found++
					}
				}
			}
			if end := at == 0 && bit >= 4 || at == len(s)-1 && bit < 4; found > 0 && !end {
				t.Errorf("bit %d of letter %d may be wrong", bit, at)
			} else if found > 0 {
				most++
			}
		}
	}
	if most > 8 {
		t.Errorf("%d bits may be wrong", most)
	}
}

func TestUsable(t *testing.T) {
	t.Parallel()
	for s, ok := range map[string]bool{
		"aB3xE5gH7q": true, "aB3xE5gH7": false, "qhvzkrwmxpfy": true, "qhvzkrwmxpf": false, "q7v2k9wmxpf": true, "q7v2k9wmxp": false, "QHVZKRWMXPFY": true, "6b0f92d7c41e8a": true, "6b0f92d7c41e8": false,
		"6B0F92D7C41E8A": true, "6b0F92D7c41e8": false, "83926174058293716": true, "8392617405829371": false, "0191d2c3-4e5f-7a6b-8c9d-0e1f2a3b4c5d": true, token: true, "pässword-gültig-Öl7": true,
		"sk_live_7f3a9c52e1d8b604": true, "ghp_16C7e42F292c6912E7710c838347Ae178B4a": true, "JBSWY3DPEHPK3PXP": true, "correct horse battery staple": true,
		// What many choose, and what only looks long.
		"Password1!": false, "Summer2026": false, "letmein123456": false, "000000000000000": false, "aaaaaaaaaaaaaaaaaaaaaaaa": false, "P@ssw0rd!P@ssw0rd!": false, "1234567890123456789": false, "0123456789abcdef": false,
		"qwertyuiopasdfghjkl": false, "abcabcabcabcabcabc": false, "Winter-2025-Winter-2026": false, "admin:admin:admin": false, "abbabaababbabbaaba": false, "aababbbaabbabaaababbbbaabaaaabbbabababb": false, "!!!!????!!!!????!?!?": false, "00000000-0000-0000-0000-000000000000": false,
		"sk_live_0123456789": false, strings.Repeat("x", MostSecret): false, random(MostSecret): true,
		"": false, "1234567": false, random(MostSecret + 1): false, "abcxe\r\nfghijqv": false, "abcxe\x00fghijqv": false, "abcxefghijqv7\x7f": false, "abcxefghijqv7\u0085": false,
		" aB3xE5gH7q": false, "aB3xE5gH7q\u00a0": false, "aB3xE5gH7q\xff": false,
	} {
		if err := Usable(secret.Own([]byte(s))); (err == nil) != ok || err != nil && s != "" && strings.Contains(err.Error(), s) {
			t.Errorf("%.20q: %v", s, err)
		}
	}
}
