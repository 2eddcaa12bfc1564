package password

import (
	"strings"
	"testing"

	"github.com/avouch-dev/avouch/internal/guessed"
)

func TestCommonPasswords(t *testing.T) {
	t.Parallel()
	for _, p := range []string{
		"Password1234!", "P@ssw0rd12345", "passwordpassword", "qwertyuiop[]", "1qaz2wsx3edc", "1q2w3e4r5t6y", "QAZWSXEDCRFV", "zaq12wsxcde3", "123456789012", "987654321098",
		"aaaaaaaaaaaa", "abcabcabcabc", "123123123123", "Summer2024!!!", "iloveyou12345", "dragonmonkey1", "administrator", "trustno1trustno1", "letmein123456",
		"йцукенгшщзхъ", "ｐａｓｓｗｏｒｄ１２３４", "pássword1234", "mailcreated5240", "motherfucker1", "qwertzuiop123", "azertyuiop123", strings.Repeat("x", 1024), strings.Repeat("ab", 512),
	} {
		if !guessed.Common(p) {
			t.Errorf("%q is not found common", p)
		}
	}
	for _, p := range []string{
		"correct horse battery staple", "tm4Q-pp9z-77hK", "Gras wächst im Mai", "vK8#qLw2!zRt", "the snail wore a hat", "4817 2094 6631 5", "пять старых велосипедов",
		"ripe-plum-42-canoe", "0b8e5c2f9a174d6e",
	} {
		if guessed.Common(p) {
			t.Errorf("%q is found common", p)
		}
	}
}

// TestListedPasswordsAreCommon: with whatever else the rules say, nothing of the list gets through.
func TestListedPasswordsAreCommon(t *testing.T) {
	t.Parallel()
	n, all := 0, 0
	for word := range guessed.Words() {
		all++
		if len(word) < LeastCharacters {
			continue
		}
		if n++; !guessed.Common(word) || !guessed.Common(strings.ToUpper(word)) {
			t.Errorf("%q gets through", word)
		}
	}
	if n < 400 || all < 7000 {
		t.Errorf("the list has %d words, %d of them long", all, n)
	}
}

func TestPersonalPasswords(t *testing.T) {
	t.Parallel()
	ada := []string{"Ada Lovelace", "a.lovelace@Analytical-Engines.example", "Analytical Engines Ltd", ""}
	for _, p := range []string{
		"AdaLovelace!2024", "adalovelace1815", "lovelace-ada-1", "analyticalengines", "Analytical.Engines1", "a.lovelace@analytical-engines.example", "L0vel4ceL0vel4ce", "LovelaceXq9!t",
	} {
		if !ofTheirOwn(p, ada) {
			t.Errorf("%q is not found personal", p)
		}
		if ofTheirOwn(p, nil) || ofTheirOwn(p, []string{"", "Jo"}) {
			t.Errorf("%q is personal to somebody else", p)
		}
	}
	for _, p := range []string{"ada rides a red bicycle", "vK8#qLw2!zRt", "engines of plum and glass"} {
		if ofTheirOwn(p, ada) {
			t.Errorf("%q is found personal", p)
		}
	}
	if !ofTheirOwn("MüllerMüller77", []string{"Jörg Müller"}) || !ofTheirOwn("mullermuller77", []string{"Jörg Müller"}) {
		t.Error("accents hide a name")
	}
}
