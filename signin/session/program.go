package session

import "strings"

// The first that a User-Agent contains names it: they all claim to be several, the truest last in history and first here.
var (
	browsers = []struct{ mark, name string }{
		{"Edg", "Edge"}, {"OPR/", "Opera"}, {"Opera", "Opera"}, {"SamsungBrowser", "Samsung Internet"}, {"Firefox", "Firefox"}, {"FxiOS", "Firefox"},
		{"CriOS", "Chrome"}, {"Chromium", "Chromium"}, {"Chrome", "Chrome"}, {"Safari", "Safari"},
	}
	systems = []struct{ mark, name string }{
		{"iPhone", "iPhone"}, {"iPad", "iPad"}, {"Android", "Android"}, {"CrOS", "ChromeOS"}, {"Windows", "Windows"}, {"Mac OS X", "macOS"},
		{"Macintosh", "macOS"}, {"macOS", "macOS"}, {"Linux", "Linux"},
	}
)

// ProgramName makes a few words of a User-Agent, as a person would say what it is: "Firefox on Linux", "curl". It is what the
// client says of itself and proves nothing.
func ProgramName(userAgent string) string {
	for _, b := range browsers {
		if !strings.Contains(userAgent, b.mark) {
			continue
		}
		for _, s := range systems {
			if strings.Contains(userAgent, s.mark) {
				return b.name + " on " + s.name
			}
		}
		return b.name
	}
	name, _, _ := strings.Cut(userAgent, "/")
	name = line(strings.Map(func(c rune) rune {
		switch {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '.', c == '-', c == '_', c == ' ':
			return c
		}
		return -1
	}, name), 32)
	if name == "" {
		return "unknown program"
	}
	return name
}
