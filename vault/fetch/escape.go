package fetch

import (
	"html"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// escape is a syntax in which a letter can be written in several ways, mixed as the writer likes.
type escape struct {
	lead byte // what an escape begins with; 0 is none
	// decode reads an escape: the letters, and how many bytes it takes, 0 if it is none. More is that what is there could become one.
	decode func(text []byte) (letters []byte, used int, more bool)
	plus   bool // + is a blank
}

// escapes are the readings of a text. The first is as it is.
func escapes(plus bool) []escape {
	all := []escape{
		{decode: nil},
		{lead: '%', decode: percent},
		{lead: '\\', decode: backslash},
		{lead: '&', decode: entity},
		{lead: '=', decode: quoted},
	}
	if plus {
		all = append(all, escape{lead: '%', decode: percent, plus: true})
	}
	return all
}

// percent reads %2F, of addresses and forms.
func percent(text []byte) ([]byte, int, bool) {
	n, used, more := digits(text[1:], 2)
	return []byte{byte(n)}, whole(used, 1), more
}

// digits reads so many hexadecimal digits.
func digits(text []byte, size int) (n rune, used int, more bool) {
	for _, b := range text[:min(size, len(text))] {
		v := strings.IndexByte("0123456789abcdef0123456789ABCDEF", b)
		if v < 0 {
			return 0, 0, false
		}
		n = n<<4 | rune(v&15)
	}
	if len(text) < size {
		return 0, 0, true
	}
	return n, size, false
}

func whole(used, before int) int {
	if used == 0 {
		return 0
	}
	return used + before
}

// backslash reads the escapes of JSON, and of what is near to it: \/ \" \n \u002F \x2f.
func backslash(text []byte) ([]byte, int, bool) {
	if len(text) < 2 {
		return nil, 0, true
	}
	switch c := text[1]; c {
	case 'n', 'r':
		return []byte{'\n'}, 2, false
	case '/', '\\', '"', '\'':
		return []byte{c}, 2, false
	case 'x':
		n, used, more := digits(text[2:], 2)
		return []byte{byte(n)}, whole(used, 2), more
	case 'u':
		n, used, more := digits(text[2:], 4)
		if used == 0 || !utf16.IsSurrogate(n) {
			return utf8.AppendRune(nil, n), whole(used, 2), more
		}
		return surrogates(n, text[6:])
	}
	return nil, 0, false // \t and the like: no secret holds what they stand for
}

// surrogates reads the second half of a letter that JSON writes as two.
func surrogates(first rune, rest []byte) ([]byte, int, bool) {
	if !strings.HasPrefix(`\u`, string(rest[:min(2, len(rest))])) {
		return nil, 0, false
	}
	if len(rest) < 2 {
		return nil, 0, true
	}
	second, used, more := digits(rest[2:], 4)
	r := utf16.DecodeRune(first, second)
	if more {
		return nil, 0, true
	}
	if used == 0 || r == utf8.RuneError {
		return nil, 0, false
	}
	return utf8.AppendRune(nil, r), 12, false
}

// quoted reads =2F of quoted-printable, and the = at the end of a line that goes on in the next one.
func quoted(text []byte) ([]byte, int, bool) {
	switch rest := string(text[1:]); {
	case rest == "" || rest == "\r":
		return nil, 0, true
	case rest[0] == '\n' || rest == "\r\n":
		return []byte{'\n'}, len(text), false
	}
	n, used, more := digits(text[1:], 2)
	return []byte{byte(n)}, whole(used, 1), more
}

// longestEntity is the length of the longest name that HTML has, with & and ;.
const longestEntity = len("&CounterClockwiseContourIntegral;")

// entity reads &amp; &#38; &#x26; of HTML and XML.
func entity(text []byte) ([]byte, int, bool) {
	last := text[len(text)-1]
	switch {
	case len(text) == 1:
		return nil, 0, true
	case last == ';':
		plain := html.UnescapeString(string(text))
		if plain == string(text) || len(plain) > utf8.UTFMax {
			return nil, 0, false
		}
		return []byte(plain), len(text), false
	case len(text) >= longestEntity:
		return nil, 0, false
	}
	alphanumeric := last >= 'a' && last <= 'z' || last >= 'A' && last <= 'Z' || last >= '0' && last <= '9'
	return nil, 0, alphanumeric || last == '#' && len(text) == 2
}
