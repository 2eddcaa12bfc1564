package e2e

import (
	"bytes"
	"compress/gzip"
	"crypto/rand"
	"encoding/base32"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"net/http/httputil"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
)

// seed adds a seed of one-time codes: as every secret, and in base32 of either case, wherever in a longer text it begins. An otpauth address
// holds that, and so is found when it is encoded as a whole.
func (h *hunt) seed(t testing.TB, name string, seed []byte) {
	t.Helper()
	h.add(t, name, seed)
	whole := base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(seed)
	h.add(t, name, []byte(whole))
	h.add(t, name, []byte(strings.ToLower(whole)))
	for skip := range 5 {
		text := base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(append(make([]byte, skip), seed...))
		text = text[(skip*8+4)/5 : len(text)-1] // those at the ends depend on what is beside them
		h.put(name, []byte(text), []byte(strings.ToLower(text)))
	}
}

// anyhow is in for text that people and programs write in many ways: in groups of a few characters, with escapes of addresses or of JSON,
// and compressed.
func (h *hunt) anyhow(text []byte) []string {
	found := h.in(text)
	more := func(b []byte) { found = append(found, h.in(b)...) }
	more(bytes.Map(func(r rune) rune {
		if strings.ContainsRune(" -_.:\r\n\t", r) {
			return -1
		}
		return r
	}, text))
	if plain, err := url.QueryUnescape(string(text)); err == nil {
		more([]byte(plain))
	}
	more([]byte(strings.NewReplacer("%2B", "+", "%2b", "+", "%2F", "/", "%2f", "/", "%3D", "=", "%3d", "=", `\/`, "/", `\u002b`, "+", `\u003d`, "=").Replace(string(text))))
	for at := 0; ; at++ {
		next := bytes.Index(text[at:], []byte{0x1f, 0x8b, 8})
		if next < 0 {
			break
		}
		at += next
		if r, err := gzip.NewReader(bytes.NewReader(text[at:])); err == nil {
			plain, _ := io.ReadAll(r) // what can be read of it
			if len(plain) > 0 {
				found = append(found, h.anyhow(plain)...)
			}
		}
	}
	slices.Sort(found)
	return slices.Compact(found)
}

// heard is an answer as it went over the wire, up to now.
type heard struct {
	who, method, path string
	status            int
	mu                sync.Mutex
	answer            bytes.Buffer // head and body
}

func (x *heard) String() string {
	return fmt.Sprintf("%s, %s %s: %d", x.who, x.method, x.path, x.status)
}

func (x *heard) bytes() []byte {
	x.mu.Lock()
	defer x.mu.Unlock()
	return bytes.Clone(x.answer.Bytes())
}

// recorder stands before a server and keeps all that it answers.
type recorder struct {
	url string
	mu  sync.Mutex
	all []*heard
}

// asker is the header by which a request says whose it is. It does not reach the server.
const asker = "X-Test-Asker"

func record(t testing.TB, target string) *recorder {
	t.Helper()
	to := mustURL(t, target)
	r := &recorder{}
	proxy := &httputil.ReverseProxy{
		FlushInterval: -1,
		Rewrite: func(p *httputil.ProxyRequest) {
			p.SetURL(to)
			p.Out.Host = to.Host
			p.Out.Header.Del(asker)
			if p.In.Header.Get("Origin") == r.url {
				p.Out.Header.Set("Origin", target)
			}
		},
		ModifyResponse: func(a *http.Response) error {
			x := &heard{who: a.Request.Context().Value(whoKey{}).(string), method: a.Request.Method, path: a.Request.URL.Path, status: a.StatusCode}
			a.Header.Write(&x.answer)
			a.Body = &tape{a.Body, x}
			r.mu.Lock()
			defer r.mu.Unlock()
			r.all = append(r.all, x)
			return nil
		},
	}
	r.url = "http://" + serveBeside(t, http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		proxy.ServeHTTP(w, q.WithContext(withWho(q.Context(), q.Header.Get(asker))))
	}))
	return r
}

// tape keeps what is read.
type tape struct {
	io.ReadCloser
	x *heard
}

func (t *tape) Read(b []byte) (int, error) {
	n, err := t.ReadCloser.Read(b)
	t.x.mu.Lock()
	defer t.x.mu.Unlock()
	t.x.answer.Write(b[:n])
	return n, err
}

// showing are the exchanges that hold something of h.
func (r *recorder) showing(h *hunt) (all map[*heard][]string, bytes int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	all = map[*heard][]string{}
	for _, x := range r.all {
		b := x.bytes()
		bytes += len(b)
		if found := h.anyhow(b); len(found) > 0 {
			all[x] = found
		}
	}
	return all, bytes
}

// writings is a seed in every form that it is looked for.
func writings(seed []byte) map[string]string {
	b32 := base32.StdEncoding.EncodeToString(seed)
	bare := strings.TrimRight(b32, "=")
	var groups []string
	for chunk := range slices.Chunk([]byte(strings.ToLower(bare)), 4) {
		groups = append(groups, string(chunk))
	}
	std, web := base64.StdEncoding.EncodeToString(seed), base64.URLEncoding.EncodeToString(seed)
	return map[string]string{
		"base32": b32, "base32 without padding": bare, "base32 in lower case": strings.ToLower(b32), "base32 in groups": strings.Join(groups, " "), "base32 in groups with dashes": strings.ToUpper(strings.Join(groups, "-")),
		"hex": hex.EncodeToString(seed), "hex in upper case": strings.ToUpper(hex.EncodeToString(seed)), "hex in pairs": fmt.Sprintf("% x", seed),
		"base64": std, "base64 in an address": url.QueryEscape(std), "base64url": web, "base64url without padding": strings.TrimRight(web, "="), "raw": string(seed),
		"otpauth": "otpauth://totp/x?secret=" + bare + "&issuer=y", "otpauth in an address": url.QueryEscape("otpauth://totp/x?secret=" + bare), "otpauth in base64": base64.StdEncoding.EncodeToString([]byte("otpauth://totp/x?secret=" + bare)),
		"base32 in hex": hex.EncodeToString([]byte(bare)), "base32 of more": base32.StdEncoding.EncodeToString(append([]byte("{\"key\":\""), seed...)),
	}
}

// TestPlantedSeedIsFound plants a seed in answers, in every form and by every way, where TestSeedNeverLeaves looks. Of the seed that is looked
// for there it says what that test would have said.
func TestPlantedSeedIsFound(t *testing.T) {
	t.Parallel()
	seed := make([]byte, 20)
	rand.Read(seed)
	h := newHunt()
	h.seed(t, "seed", seed)
	var text string
	carriers := map[string]func(http.ResponseWriter){
		"body":         func(w http.ResponseWriter) { fmt.Fprintf(w, `{"name":"item","note":"%s"}`, text) },
		"event stream": func(w http.ResponseWriter) { fmt.Fprintf(w, "event: entry\ndata: {\"x\":\"%s\"}\n\n", text) },
		"compressed": func(w http.ResponseWriter) {
			w.Header().Set("Content-Encoding", "gzip")
			z := gzip.NewWriter(w)
			fmt.Fprintf(z, `{"note":"%s"}`, text)
			z.Close()
		},
		"header": func(w http.ResponseWriter) { w.Header().Set("X-Note", text) },
	}
	var carry func(http.ResponseWriter)
	r := record(t, "http://"+serveBeside(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { carry(w) })))
	planted := 0
	for form, written := range writings(seed) {
		for way, c := range carriers {
			if way == "header" && form == "raw" {
				continue // a header cannot hold it
			}
			text, carry = written, c
			want(t, http.StatusOK, http.MethodGet, r.url+"/"+url.PathEscape(form+", "+way), "", nil, nil, "Accept-Encoding", "gzip")
			planted++
		}
	}
	text = "nothing"
	for range 10 {
		want(t, http.StatusOK, http.MethodGet, r.url+"/nothing", "", nil, nil)
	}
	found, _ := r.showing(h)
	for _, x := range r.all {
		if (found[x] != nil) != (x.path != "/nothing") {
			t.Errorf("%s: found %v", x.path, found[x])
		}
	}
	if planted < 60 || len(r.all) != planted+10 {
		t.Errorf("%d were planted, and %d answers recorded", planted, len(r.all))
	}
}
