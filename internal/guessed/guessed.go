// Package guessed tells how much there is to guess of a text, from a list of what many choose and rules of what hands and heads do by
// themselves.
package guessed

import (
	_ "embed" // the words
	"iter"
	"maps"
	"slices"
	"strings"
	"sync"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"
)

// commonText is the passwords of the lists that zxcvbn, zxcvbn-ts and Django ship (NOTICE), as far as they are ASCII: of each, those
// that are used most, of any length from four characters, and all of twelve or more.
//
//go:embed common.txt
var commonText string

var commonWords = sync.OnceValue(func() map[string]bool {
	all := map[string]bool{}
	for word := range strings.Lines(commonText) {
		all[strings.TrimSuffix(word, "\n")] = true
	}
	return all
})

// Words are those of the list.
func Words() iter.Seq[string] { return maps.Keys(commonWords()) }

// keyboard is what hands do by themselves: each line is typed in either direction, from anywhere.
func keyboard() []string {
	lines := []string{
		"`1234567890-=", "!@#$%^&*()_+", "qwertyuiop[]", "asdfghjkl;'", "zxcvbnm,./", // rows
		"qwertzuiop", "yxcvbnm,.-", "azertyuiop", "qsdfghjklm", "wxcvbn", // of others
		"йцукенгшщзхъ", "фывапролджэ", "ячсмитьбю.",
		"1q2w3e4r5t6y7u8i9o0p", "q1w2e3r4t5y6u7i8o9p0", "qazwsxedcrfvtgbyhnujm", "1qaz2wsx3edc4rfv5tgb6yhn7ujm", "zaq1xsw2cde3vfr4bgt5nhy6", // columns
		"abcdefghijklmnopqrstuvwxyz", "01234567890", "a1b2c3d4e5f6g7h8i9", "147258369", "159753", "789456123",
	}
	for _, line := range slices.Clone(lines) {
		turned := []rune(line)
		slices.Reverse(turned)
		lines = append(lines, string(turned))
	}
	return lines
}

// How much has to be guessed of a text, in parts: a word that all know counts two, a run, a repetition or a year one, any other
// character one.
const (
	LeastParts  = 6 // of a password that is not common
	ShortestRun = 3 // characters: what is shorter counts by them
	wordParts   = 2
	longestWord = 24
	mostJudged  = 512 // characters: what comes after them makes nothing easier to guess
)

// Common tells whether a text is one of those that are guessed first: a word of the list, or a few with what people put
// around them: Password1234!, qwertyuiop[], abcabcabcabc, dr4gonmonk3y.
func Common(clean string) bool { return Parts(clean, nil) < LeastParts }

// Fold takes away what guessers try in all its forms: case, accents, width.
func Fold(text string) []rune {
	return []rune(strings.Map(func(c rune) rune {
		if unicode.Is(unicode.Mn, c) {
			return -1
		}
		return unicode.ToLower(c)
	}, norm.NFKD.String(text)))
}

// Parts is the least number of parts that a text can be put together from; words of its own, folded, count nothing.
func Parts(clean string, own map[string]bool) int { return parts(Fold(clean), own) }

func parts(text []rune, own map[string]bool) int {
	text = text[:min(len(text), mostJudged)]
	longest := longestWord
	for word := range own {
		longest = max(longest, utf8.RuneCountInString(word))
	}
	spellings, lines := spell(text), keyboard()
	least := make([]int, len(text)+1)
	for i := range least[1:] {
		least[i+1] = len(text)
	}
	for i := range text {
		reach := func(j, parts int) { least[j] = min(least[j], least[i]+parts) }
		reach(i+1, 1)
		for j := i + ShortestRun; j <= min(i+longest, len(text)); j++ {
			reach(j, wordsAt(spellings, i, j, own))
		}
		for j := i + ShortestRun; j <= runFrom(text, i, lines); j++ {
			reach(j, 1)
		}
		if i+4 <= len(text) && year(string(text[i:i+4])) {
			reach(i+4, 1)
		}
		for length := 1; length <= min(i, longestWord); length++ {
			if j := repeated(text, i, length); j >= i+max(length, 2) {
				reach(j, 1)
			}
		}
	}
	return least[len(text)]
}

// wordsAt is how many parts a piece is, as far as words go.
func wordsAt(spellings [][]rune, i, j int, own map[string]bool) int {
	found := j - i
	for _, s := range spellings {
		word := string(s[i:j])
		switch {
		case own[word]:
			return 0
		case commonWords()[word]:
			found = min(found, wordParts)
		}
	}
	return found
}

// spell is a text as it is, and as it reads if digits and signs stand for the letters they look like.
func spell(text []rune) [][]rune {
	all := [][]rune{text}
	for _, one := range []rune{'i', 'l'} {
		like := map[rune]rune{'@': 'a', '4': 'a', '0': 'o', '1': one, '!': 'i', '3': 'e', '$': 's', '5': 's', '7': 't', '8': 'b', '9': 'g'}
		s := slices.Clone(text)
		for i, c := range s {
			if letter, ok := like[c]; ok {
				s[i] = letter
			}
		}
		all = append(all, s)
	}
	return all
}

// runFrom is how far a run along a line of the keyboard goes.
func runFrom(text []rune, from int, lines []string) int {
	end := from + ShortestRun
	for _, line := range lines {
		for end <= len(text) && strings.Contains(line, string(text[from:end])) {
			end++
		}
	}
	return end - 1
}

// repeated is how far the piece of a length that stands before a place goes on from there.
func repeated(text []rune, from, length int) int {
	end := from
	for end < len(text) && text[end] == text[end-length] {
		end++
	}
	return end
}

func year(text string) bool {
	return strings.Trim(text, "0123456789") == "" && (text[:2] == "19" || text[:2] == "20")
}
