package fetch

import (
	"encoding/base64"
	"errors"
	"fmt"
	"math"
	"net/http"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/net/http/httpguts"

	"github.com/avouch-dev/avouch/internal/guessed"
	"github.com/avouch-dev/avouch/internal/secret"
)

// Policy is what an item's secret may be used for. It is written by those who own the item, and kept with it.
type Policy struct {
	// Hosts are those that the secret is sent to, and so trusted with.
	Hosts []string `json:"hosts" nullable:"false" doc:"Where the secret may be sent, by https: api.example.com, api.example.com:8443, [2001:db8::1], *.example.com (every name below it, of any depth, and not itself); or http://host:port in a network that the operator names. They are trusted with the secret" example:"[\"api.example.com\"]"`
	// Methods are those that an agent may use. A host that takes another method from a parameter of a POST is not stopped.
	Methods []string `json:"methods,omitempty" nullable:"true" doc:"In upper case; none are GET and HEAD" example:"[\"GET\",\"POST\"]"`
	Paths   []string `json:"paths,omitempty" nullable:"true" doc:"What a path must begin with, by whole segments; none is every path" example:"[\"/repos/acme\"]"`
	// Header and Value say where the secret goes.
	Header  string `json:"header" doc:"The header that the secret is put into, which nobody else sets" example:"Authorization"`
	Value   string `json:"value" doc:"What that header holds, with {secret} once; base64( ) may stand around it, as in Basic base64(user:{secret})" example:"Bearer {secret}"`
	Cookies bool   `json:"cookies,omitempty" doc:"Who asks may send cookies of their own"`
	// Reduce is for hosts that could give back what they are sent.
	Reduce Reduce `json:"reduce,omitzero" doc:"The most of an answer that is given: who asks must ask for that, or for less. Absent is all of it"`
}

// The bounds of a policy.
const (
	mostHosts   = 50
	mostPaths   = 50
	mostMethods = 20
	mostValue   = 256 // characters of the template
	mostName    = 64  // characters of a header's name, or a method
)

// The bounds of a secret that can be used. An agent that keeps a text of its own at a host, and fetches it, sees whether it has guessed the
// secret: not a part of it, but each letter of the text may end another guess, which is a million in an answer, and one in base64 or
// base32 is found though up to four bits at each of its ends are wrong. So an answer tells of 2^28 guesses at most. One caller has 60
// a minute, and needs two years for half of what LeastBits leave; two callers need one.
const (
	LeastSecret = 8
	MostSecret  = 4096
	LeastBits   = 55
)

const placeholder = "{secret}"

// Usable refuses a secret that cannot be used in requests, when an item is made.
func Usable(s secret.Bytes) error {
	b := s.Expose()
	switch {
	case len(b) < LeastSecret:
		return fmt.Errorf("a secret that is used in requests has at least %d bytes: a shorter one could be guessed", LeastSecret)
	case len(b) > MostSecret:
		return fmt.Errorf("a secret that is used in requests has at most %d bytes", MostSecret)
	case !utf8.Valid(b) || strings.ContainsFunc(string(b), unicode.IsControl):
		return errors.New("a secret that is used in requests is text on one line: no header can hold another")
	case strings.TrimSpace(string(b)) != string(b):
		return errors.New("a secret that is used in requests neither begins nor ends with a blank")
	case toGuess(string(b)) < LeastBits:
		return errors.New("a secret that is used in requests has at least 10 letters and digits of both cases, 12 of one case, 14 hexadecimal digits, or 17 digits, and words, years, runs and repetitions count little: a simpler one could be guessed")
	}
	return nil
}

// toGuess is how many bits there is to guess of a secret, by our estimate: of each part, one of the letters that it seems to be made of.
func toGuess(s string) float64 { return float64(guessed.Parts(s, nil)) * math.Log2(letters(s)) }

// letters is how many a secret seems to be made of: the digits, or all letters of a case, if it has one of them; of others those that are there.
// Of few different ones few are possible.
func letters(s string) float64 {
	different := map[rune]bool{}
	for _, r := range s {
		different[r] = true
	}
	n, others := 0, len(different)
	for _, class := range []string{"0123456789", "abcdefghijklmnopqrstuvwxyz", "ABCDEFGHIJKLMNOPQRSTUVWXYZ"} {
		there := 0
		for _, r := range class {
			if different[r] {
				there++
			}
		}
		if others -= there; there > 0 {
			n += len(class)
		}
	}
	n += others
	if strings.Trim(lower(s), "0123456789abcdef") == "" {
		n = min(n, 16)
	}
	return float64(min(n, len(different)*len(different)))
}

// Check refuses a policy that is none, when it is written.
func (p Policy) Check() error {
	_, err := p.compile()
	return err
}

// compiled is a policy that can be asked.
type compiled struct {
	origins []origin
	methods []string
	paths   [][]string
	header  string // in canonical form
	cookies bool
	reduce  reduction
	before  string // of the header's value
	inner   [2]string
	encoded bool // inner and the secret are base64
}

func (p Policy) compile() (c compiled, err error) {
	if len(p.Hosts) == 0 || len(p.Hosts) > mostHosts || len(p.Paths) > mostPaths || len(p.Methods) > mostMethods {
		return c, fmt.Errorf("a policy has 1 to %d hosts, up to %d paths and up to %d methods", mostHosts, mostPaths, mostMethods)
	}
	for _, h := range p.Hosts {
		o, err := allowed(h)
		if err != nil {
			return c, fmt.Errorf("the host %q: %w", h, err)
		}
		c.origins = append(c.origins, o)
	}
	for _, path := range p.Paths {
		if !strings.HasPrefix(path, "/") || strings.ContainsAny(path, "%\\?#;*") || dotted(path) || strings.Contains(path, "//") {
			return c, fmt.Errorf("the path %q is not plain: it begins with /, and holds nothing encoded, no empty segment, and neither . nor .. as one", path)
		}
		c.paths = append(c.paths, strings.Split(strings.Trim(path, "/"), "/"))
	}
	c.methods = p.Methods
	if len(c.methods) == 0 {
		c.methods = []string{http.MethodGet, http.MethodHead}
	}
	for _, m := range c.methods {
		if len(m) > mostName || !httpguts.ValidHeaderFieldName(m) || m != strings.ToUpper(m) || slices.Contains([]string{"CONNECT", "TRACE", "TRACK"}, m) {
			return c, fmt.Errorf("the method %q is none that can be allowed", m)
		}
	}
	if c.reduce, err = p.Reduce.compile(); err != nil {
		return c, fmt.Errorf("the reduction: %w", err)
	}
	c.cookies = p.Cookies
	if !httpguts.ValidHeaderFieldName(p.Header) || len(p.Header) > mostName || reserved(p.Header) != "" && !strings.EqualFold(p.Header, "Cookie") {
		return c, fmt.Errorf("the header %q cannot hold a secret", p.Header)
	}
	c.header = http.CanonicalHeaderKey(p.Header)
	return c, c.template(p.Value)
}

// template takes apart how the header is written.
func (c *compiled) template(text string) error {
	const begin, end = "base64(", ")"
	if len(text) > mostValue || strings.ContainsFunc(text, func(r rune) bool { return r < ' ' || r > '~' }) || strings.TrimSpace(text) != text {
		return fmt.Errorf("a header's value is up to %d printable characters of ASCII", mostValue)
	}
	if strings.Count(text, placeholder) != 1 {
		return errors.New("a header's value holds {secret} once")
	}
	before, after, _ := strings.Cut(text, placeholder)
	if at := strings.Index(before, begin); at >= 0 {
		inside, ok := strings.CutSuffix(after, end)
		if !ok {
			return errors.New("base64( ends with ) at the end of the header's value")
		}
		c.encoded, c.before = true, before[:at]
		before, after = before[at+len(begin):], inside
	}
	c.inner = [2]string{before, after}
	return nil
}

// value is what the header holds. It is a string, which net/http wants and nobody can clear.
func (c *compiled) value(s secret.Bytes) string {
	inner := c.inner[0] + string(s.Expose()) + c.inner[1]
	if c.encoded {
		inner = base64.StdEncoding.EncodeToString([]byte(inner))
	}
	return c.before + inner
}
