package password

import (
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/avouch-dev/avouch/internal/guessed"
)

// ofTheirOwn tells whether a password is common once what is personal counts nothing.
func ofTheirOwn(clean string, personal []string) bool {
	own := map[string]bool{}
	for _, text := range personal {
		words := strings.FieldsFunc(string(guessed.Fold(text)), func(c rune) bool { return !unicode.IsLetter(c) && !unicode.IsDigit(c) })
		for _, word := range append(words, strings.Join(words, "")) {
			if utf8.RuneCountInString(word) >= guessed.ShortestRun {
				own[word] = true
			}
		}
	}
	return len(own) > 0 && guessed.Parts(clean, own) < guessed.LeastParts && !guessed.Common(clean)
}
