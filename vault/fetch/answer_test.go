package fetch

import (
	"archive/zip"
	"bytes"
	"compress/gzip"
	"compress/zlib"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestAnswers(t *testing.T) {
	t.Parallel()
	squeezed := func(s string) []byte {
		var b bytes.Buffer
		w := gzip.NewWriter(&b)
		_, _ = w.Write([]byte(s))
		_ = w.Close()
		return b.Bytes()
	}
	url := serve(t, func(w http.ResponseWriter, r *http.Request) {
		got := strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")
		w.Header().Set("Set-Cookie", "session="+got)
		w.Header().Set("X-Secret", got)
		w.Header().Set("Etag", got)
		w.Header().Set("Link", "<https://x.example/?k="+syntaxes["a query"](got)+">")
		switch r.URL.Path {
		case "/json":
			w.Header().Set("Content-Type", "application/json")
			_ = json.NewEncoder(w).Encode(map[string]any{"headers": r.Header, "basic": b64("u:" + got), got: 1})
		case "/binary":
			_, _ = w.Write([]byte("\x00\xff" + got + "\x00"))
		case "/parts":
			for i := range len(got) {
				_, _ = w.Write([]byte{got[i]})
				w.(http.Flusher).Flush()
			}
		case "/gzip":
			w.Header().Set("Content-Encoding", "GZIP")
			_, _ = w.Write(squeezed("squeezed " + got))
		case "/empty":
			w.Header().Set("Content-Encoding", "gzip")
			w.WriteHeader(http.StatusNoContent)
		case "/br", "/gzip, gzip", "/deflate":
			w.Header().Set("Content-Encoding", r.URL.Path[1:])
			_, _ = w.Write(squeezed("x"))
		case "/error":
			http.Error(w, "no such token: "+got, http.StatusUnauthorized)
		}
	})
	f := fetcher(t, loopback())
	do := func(path string, reduce Reduce) (Response, error) {
		out, err := f.Do(t.Context(), at(url), own(token), Request{URL: url + path, Reduce: reduce})
		if text, _ := json.Marshal(out); leaks(string(text), token) != "" || strings.Contains(string(text), "ookie") || strings.Contains(string(text), "X-Secret") {
			t.Errorf("%s: %s", path, text)
		}
		return out, err
	}
	for path, want := range map[string]Response{
		"/parts": {Status: 200, Body: masked, Masked: 3}, "/gzip": {Status: 200, Body: "squeezed " + masked, Masked: 3}, "/empty": {Status: 204, Masked: 2},
		"/error": {Status: 401, Body: "no such token: [secret]\n", Masked: 3}, "/binary": {Status: 200, BodyBase64: b64("\x00\xff[secret]\x00"), Masked: 3},
	} {
		out, err := do(path, Reduce{})
		if err != nil || out.Header["Etag"][0] != masked || out.Header["Link"][0] != "<https://x.example/?k=[secret]>" {
			t.Errorf("%s: %v, %+v", path, err, out)
		}
		out.Header = nil
		if d := cmp.Diff(want, out); d != "" {
			t.Errorf("%s: %s", path, d)
		}
	}
	if out, err := do("/json", Reduce{}); err != nil || out.Masked != 5 || !json.Valid([]byte(out.Body)) {
		t.Errorf("%+v, %v", out, err)
	}
	if out, err := do("/json", Reduce{Pointers: []string{"/headers/Authorization/0", "/basic", "/none"}}); err != nil || len(out.Values) != 2 || string(out.Values["/headers/Authorization/0"]) != `"Bearer [secret]"` || out.Header != nil || out.Body != "" {
		t.Errorf("%+v, %v", out, err)
	}
	if out, err := do("/error", Reduce{Pointers: []string{"/a"}}); err != nil || out.Status != 401 || len(out.Values) > 0 {
		t.Errorf("no JSON: %+v, %v", out, err)
	}
	if out, err := do("/error", Reduce{Status: true}); err != nil || !cmp.Equal(out, Response{Status: 401}) {
		t.Errorf("%+v, %v", out, err)
	}
	for _, path := range []string{"/br", "/gzip,%20gzip", "/deflate"} {
		if _, err := do(path, Reduce{}); !errors.Is(err, ErrFailed) || Reason(err) != "encoding" {
			t.Errorf("%s: %v (%s)", path, err, Reason(err))
		}
	}
}

func endless(w io.Writer, part string) {
	for {
		if _, err := io.WriteString(w, part); err != nil {
			return
		}
	}
}

func TestLongAnswers(t *testing.T) {
	t.Parallel()
	c := loopback()
	c.MaxBody, c.Timeout = 100_000, time.Minute
	f := fetcher(t, c)
	url := serve(t, func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/fits":
			_, _ = w.Write([]byte(strings.Repeat("é", 50_000)))
		case "/long":
			w.Header().Set("Content-Length", "100001")
			_, _ = w.Write([]byte("x" + strings.Repeat("é", 50_000)))
		case "/wide":
			_, _ = w.Write([]byte("xx" + strings.Repeat("漢", 40_000)))
		default:
			endless(w, `[1,2,3],`)
		}
	})
	for path, want := range map[string]struct {
		size int
		cut  bool
	}{"/fits": {100_000, false}, "/long": {99_999, true}, "/wide": {99_998, true}, "/endless": {100_000, true}} {
		out, err := f.Do(t.Context(), at(url), own(token), Request{URL: url + path})
		if err != nil || len(out.Body) != want.size || out.Truncated != want.cut || out.BodyBase64 != "" {
			t.Errorf("%s: %d bytes, cut %v, %v", path, len(out.Body), out.Truncated, err)
		}
	}
	if _, err := f.Do(t.Context(), at(url), own(token), Request{URL: url + "/endless", Reduce: Reduce{Pointers: []string{"/0"}}}); !errors.Is(err, ErrTooLong) {
		t.Errorf("pointers into what is too long: %v", err)
	}
	if out, err := f.Do(t.Context(), at(url), own(token), Request{URL: url + "/endless", Reduce: Reduce{Status: true}}); err != nil || out.Status != 200 {
		t.Errorf("%+v, %v", out, err)
	}
	for name, answer := range map[string]func(io.Writer){
		"endless headers": func(w io.Writer) { _, _ = io.WriteString(w, "HTTP/1.1 200 OK\r\n"); endless(w, "X-A: b\r\n") },
		"an endless one":  func(w io.Writer) { _, _ = io.WriteString(w, "HTTP/1.1 200 OK\r\nX-A: "); endless(w, "aaaaaaaa") },
		"an endless line": func(w io.Writer) { endless(w, "HTTP/1.1 200 ") },
		"endless 100s":    func(w io.Writer) { endless(w, "HTTP/1.1 103 Early Hints\r\n\r\n") },
		"an endless chunk": func(w io.Writer) {
			_, _ = io.WriteString(w, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1;")
			endless(w, "aaaaaaaa")
		},
		"endless trailers": func(w io.Writer) {
			_, _ = io.WriteString(w, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n")
			endless(w, "X-A: b\r\n")
		},
		"no HTTP":     func(w io.Writer) { _, _ = io.WriteString(w, "SSH-2.0-x\r\n") },
		"nothing":     func(io.Writer) {},
		"half a body": func(w io.Writer) { _, _ = io.WriteString(w, "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nabc") },
		"two lengths": func(w io.Writer) {
			_, _ = io.WriteString(w, "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nabc")
		},
	} {
		url := raw(t, answer)
		if out, err := f.Do(t.Context(), at(url), own(token), Request{URL: url}); !errors.Is(err, ErrFailed) {
			t.Errorf("%s: %+v, %v", name, out, err)
		}
	}
}

// TestReducedInTurn: of 64 answers, as long as they may be, that come at once, pointers are followed in as many as there are processors; and
// whoever goes away meanwhile is not waited for.
func TestReducedInTurn(t *testing.T) {
	t.Parallel()
	c := loopback()
	c.MaxBody, c.Timeout = 64<<10, 5*time.Minute
	f := fetcher(t, c)
	if n := cap(f.reducing); n != runtime.GOMAXPROCS(0) {
		t.Errorf("%d at once", n)
	}
	body := []byte(`["` + strings.Repeat("x", 64<<10-6) + `",5]`)
	var sent sync.WaitGroup
	sent.Add(64)
	url := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write(body)
		sent.Done()
	})
	for range cap(f.reducing) {
		f.reducing <- struct{}{}
	}
	ctx, cancel := context.WithCancel(t.Context())
	left, stayed := make(chan error, 64), make(chan error, 64)
	for n := range 64 {
		go func() {
			if n == 0 {
				_, err := f.Do(ctx, at(url), own(token), Request{URL: url, Reduce: Reduce{Pointers: []string{"/1"}}})
				left <- err
				return
			}
			out, err := f.Do(t.Context(), at(url), own(token), Request{URL: url, Reduce: Reduce{Pointers: []string{"/1"}}})
			if err == nil && string(out.Values["/1"]) != "5" {
				err = fmt.Errorf("%s", out.Values)
			}
			stayed <- err
		}()
	}
	sent.Wait()
	time.Sleep(200 * time.Millisecond) // what does not wait for its turn is through by then
	cancel()
	if err := <-left; Reason(err) != "cancelled" {
		t.Error(err)
	}
	if len(stayed) > 0 {
		t.Errorf("%d did not wait", len(stayed))
	}
	for range cap(f.reducing) {
		<-f.reducing
	}
	for range 63 {
		if err := <-stayed; err != nil {
			t.Error(err)
		}
	}
	if len(f.reducing) > 0 {
		t.Errorf("%d are never over", len(f.reducing))
	}
}

func TestSlowAnswers(t *testing.T) {
	t.Parallel()
	c := loopback()
	c.Timeout = 300 * time.Millisecond
	f := fetcher(t, c)
	drip := func(w io.Writer, s string) {
		for range 100 {
			if _, err := io.WriteString(w, s); err != nil {
				return
			}
			time.Sleep(50 * time.Millisecond)
		}
	}
	for name, answer := range map[string]func(io.Writer){
		"no answer":    func(io.Writer) { time.Sleep(5 * time.Second) },
		"slow headers": func(w io.Writer) { _, _ = io.WriteString(w, "HTTP/1.1 200 OK\r\n"); drip(w, "X-A: b\r\n") },
		"a slow body":  func(w io.Writer) { _, _ = io.WriteString(w, "HTTP/1.1 200 OK\r\n\r\n"); drip(w, "a") },
		"slow redirects": func(w io.Writer) {
			time.Sleep(120 * time.Millisecond)
			_, _ = io.WriteString(w, "HTTP/1.1 302 Found\r\nContent-Length: 0\r\nLocation: /again\r\n\r\n")
		},
	} {
		url := raw(t, answer)
		start := time.Now()
		if out, err := f.Do(t.Context(), at(url), own(token), Request{URL: url}); Reason(err) != "timeout" {
			t.Errorf("%s: %+v, %v (%s)", name, out, err, Reason(err))
		}
		if took := time.Since(start); took > 20*time.Second {
			t.Errorf("%s took %s", name, took)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := f.Do(ctx, at("http://127.0.0.1"), own(token), Request{URL: "http://127.0.0.1/"}); Reason(err) != "cancelled" {
		t.Errorf("%v (%s)", err, Reason(err))
	}
}

// TestCompressed: what is compressed cannot be searched for the secret. Where nothing says that it is, it is known by how it begins.
func TestCompressed(t *testing.T) {
	t.Parallel()
	pack := func(open func(io.Writer) io.WriteCloser) string {
		var b bytes.Buffer
		w := open(&b)
		_, _ = io.WriteString(w, "you sent "+token)
		_ = w.Close()
		return b.String()
	}
	gzipped := pack(func(w io.Writer) io.WriteCloser { return gzip.NewWriter(w) })
	level := func(n int) func(io.Writer) io.WriteCloser {
		return func(w io.Writer) io.WriteCloser { z, _ := zlib.NewWriterLevel(w, n); return z }
	}
	answers := map[string]string{
		"/gzip": gzipped, "/zlib1": pack(level(1)), "/zlib6": pack(level(6)), "/zlib9": pack(level(9)), "/stored": pack(level(0)),
		"/zip": pack(func(w io.Writer) io.WriteCloser {
			z := zip.NewWriter(w)
			f, _ := z.Create("a")
			_, _ = io.WriteString(f, token)
			return struct {
				io.Writer
				io.Closer
			}{io.Discard, z}
		}),
		"/zstd": "\x28\xb5\x2f\xfd\x04\x00\x00", "/xz": "\xfd7zXZ\x00\x00", "/bzip2": "BZh91AY&SY\xff\x00", "/lz4": "\x04\x22\x4d\x18\x64\x40\xa7", "/compress": "\x1f\x9d\x90\x00", "/7z": "7z\xbc\xaf\x27\x1c\x00",
		"/twice": pack(func(w io.Writer) io.WriteCloser {
			z := gzip.NewWriter(w)
			_, _ = io.WriteString(z, gzipped)
			return struct {
				io.Writer
				io.Closer
			}{io.Discard, z}
		}),
		"/text": "x^2 + y^2, BZh and PK\x03\x04 and x\x01", "/binary": "\x89PNG\r\n\x1a\n\x00\xff", "/size": "\x88\x1c\xff", "/method": "\x79\x18\xff", "/check": "\x78\x9d\xff", "/short": "\x1f", "/empty": "",
	}
	url := serve(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/plain")
		if r.URL.Path == "/twice" {
			w.Header().Set("Content-Encoding", "gzip")
		}
		_, _ = io.WriteString(w, answers[r.URL.Path])
	})
	f := fetcher(t, loopback())
	for path, body := range answers {
		out, err := f.Do(t.Context(), at(url), own(token), Request{URL: url + path})
		if strings.Contains("/text /binary /size /method /check /short /empty", path) {
			if err != nil || out.Body != body && out.BodyBase64 != b64(body) {
				t.Errorf("%s: %+v, %v", path, out, err)
			}
			continue
		}
		if !errors.Is(err, ErrCompressed) || Reason(err) != "compressed" || !cmp.Equal(out, Response{}) {
			t.Errorf("%s: %+v, %v", path, out, err)
		}
		if out, err := f.Do(t.Context(), at(url), own(token), Request{URL: url + path, Reduce: Reduce{Pointers: []string{""}}}); err != nil || out.Status != http.StatusOK || out.Values != nil {
			t.Errorf("%s, reduced: %+v, %v", path, out, err)
		}
	}
}

// TestBombs is what is short on the wire and long in memory, or the other way round.
func TestBombs(t *testing.T) {
	t.Parallel()
	c := loopback()
	c.MaxBody, c.Timeout = 100_000, time.Minute
	f := fetcher(t, c)
	const head = "HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n\r\n"
	bomb := raw(t, func(w io.Writer) {
		_, _ = io.WriteString(w, head)
		z := gzip.NewWriter(w)
		for range 64 << 10 {
			if _, err := z.Write(make([]byte, 1<<10)); err != nil {
				return
			}
		}
		_ = z.Close()
	})
	out, err := f.Do(t.Context(), at(bomb), own(token), Request{URL: bomb})
	if err != nil || !out.Truncated || len(out.BodyBase64) > 140_000 {
		t.Errorf("64 MiB of zeros: %d bytes, cut %v, %v", len(out.BodyBase64), out.Truncated, err)
	}
	if _, err := f.Do(t.Context(), at(bomb), own(token), Request{URL: bomb, Reduce: Reduce{Pointers: []string{"/a"}}}); !errors.Is(err, ErrTooLong) {
		t.Error(err)
	}
	for name, answer := range map[string]func(io.Writer){
		"empty blocks": func(w io.Writer) {
			_, _ = io.WriteString(w, head+"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff")
			endless(w, "\x00\x00\x00\xff\xff")
		},
		"an endless name": func(w io.Writer) {
			_, _ = io.WriteString(w, head+"\x1f\x8b\x08\x08\x00\x00\x00\x00\x00\xff")
			endless(w, "name")
		},
		"empty members": func(w io.Writer) { _, _ = io.WriteString(w, head); endless(w, emptyGzip()) },
		"no gzip":       func(w io.Writer) { _, _ = io.WriteString(w, head+"hello, world") },
	} {
		url := raw(t, answer)
		start := time.Now()
		if out, err := f.Do(t.Context(), at(url), own(token), Request{URL: url}); Reason(err) != "broken" || time.Since(start) > 30*time.Second {
			t.Errorf("%s: %+v, %v (%s) after %s", name, out, err, Reason(err), time.Since(start))
		}
	}
}

func emptyGzip() string {
	var b bytes.Buffer
	_ = gzip.NewWriter(&b).Close()
	return b.String()
}

func TestFailuresAreAlike(t *testing.T) {
	t.Parallel()
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	closed.Close()
	tls := httptest.NewUnstartedServer(http.NotFoundHandler())
	tls.Config.ErrorLog = log.New(io.Discard, "", 0)
	tls.StartTLS()
	defer tls.Close()
	slow := raw(t, func(io.Writer) { time.Sleep(5 * time.Second) })
	plain := serve(t, func(http.ResponseWriter, *http.Request) {})
	c := loopback()
	hasty := loopback()
	hasty.Timeout = 300 * time.Millisecond
	c.Lookup = func(_ context.Context, _, host string) ([]netip.Addr, error) {
		if a, err := netip.ParseAddr(host); err == nil {
			return []netip.Addr{a}, nil
		}
		return nil, &net.DNSError{Err: "no such host", Name: host, IsNotFound: true}
	}
	patient := fetcher(t, c)
	for url, reason := range map[string]string{
		"https://10.0.0.1":                 "refused",
		"https://nowhere.example":          "lookup",
		"http://" + closed.Addr().String(): "unreachable",
		tls.URL:                            "tls",
		"https" + plain[len("http"):]:      "tls",
		slow:                               "timeout",
		raw(t, func(io.Writer) {}):         "broken",
		"http" + tls.URL[len("https"):]:    "",
	} {
		f := patient
		if url == slow {
			f = fetcher(t, hasty)
		}
		out, err := f.Do(t.Context(), at(url), own(token), Request{URL: url})
		if reason == "" { // it says in clear that it wants TLS
			if err != nil || out.Status != http.StatusBadRequest {
				t.Errorf("%s: %+v, %v", url, out, err)
			}
			continue
		}
		if !errors.Is(err, ErrFailed) || err.Error() != ErrFailed.Error() || fmt.Sprintf("%+v", err) != ErrFailed.Error() || errors.Unwrap(err) != nil || out.Status != 0 {
			t.Errorf("%s: %+v, %+v", url, out, err)
		}
		if Reason(err) != reason {
			t.Errorf("%s: the reason is %q, want %q", url, Reason(err), reason)
		}
	}
	if Reason(ErrTooLong) != "too_long" || Reason(errNoJSON) != "" || Reason(nil) != "" {
		t.Error("a reason of what did answer")
	}
}

// TestErrorsHoldNoSecret: what net/http says of an answer that it does not understand quotes the answer.
func TestErrorsHoldNoSecret(t *testing.T) {
	t.Parallel()
	f := fetcher(t, loopback())
	for _, answer := range []string{
		token + "\r\n\r\n", "HTTP/1.1 " + token + "\r\n\r\n", "HTTP/1.1 200 OK\r\n" + token + "\r\n\r\n", "HTTP/1.1 200 OK\r\nContent-Length: " + token + "\r\n\r\n",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: " + token + "\r\n\r\n", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + token + "\r\n", "HTTP/1.1 200 OK\r\nContent-Encoding: " + token + "\r\n\r\n",
	} {
		url := raw(t, func(w io.Writer) { _, _ = io.WriteString(w, answer) })
		_, err := f.Do(t.Context(), at(url), own(token), Request{URL: url})
		if !errors.Is(err, ErrFailed) || leaks(fmt.Sprintf("%v %+v %#v %s", err, err, err, Reason(err)), token) != "" {
			t.Errorf("%q: %#v", answer, err)
		}
	}
}
