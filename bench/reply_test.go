package main

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
)

func TestReadReply(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		in     string
		status int
		body   string
		size   int
		closes bool
		bad    bool
	}{
		{in: "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi", status: 200, body: "hi", size: 40},
		{in: "HTTP/1.1 200 OK\r\ncontent-length:2\r\n\r\nhiHTTP/1.1", status: 200, body: "hi", size: 39},
		{in: "HTTP/1.1 429 Too Many Requests\r\nConnection: close\r\nContent-Length: 0\r\n\r\n", status: 429, size: 72, closes: true},
		{in: "HTTP/1.1 204 No Content\r\n\r\n", status: 204, size: 27},
		{in: "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n1\r\nd\r\n0\r\n\r\n", status: 200, body: "abcd", size: 66},
		{in: "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nhi"},
		{in: "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n1\r\n"},
		{in: "HTTP/1.1 200 OK\r\nContent-Le"},
		{in: ""},
		{in: "HTTP/1.1 200 OK\r\n\r\n", bad: true},
		{in: "HTTP/1.1 100 Continue\r\n\r\n", bad: true},
		{in: "HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nhi", bad: true},
		{in: "HTTP/1.1 2000\r\nContent-Length: 2\r\n\r\nhi", bad: true},
		{in: "HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n", bad: true},
		{in: "HTTP/1.1 200 OK\r\nContent-Length: \r\n\r\n", bad: true},
		{in: "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", bad: true},
		{in: "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nabc\r\n", bad: true},
		{in: strings.Repeat("x", mostHead+1), bad: true},
	} {
		r, size, err := readReply([]byte(c.in))
		if bad := errors.Is(err, errReply); bad != c.bad || size != c.size || r.status != c.status && !c.bad && c.size > 0 || string(r.body) != c.body || r.closes != c.closes && c.size > 0 {
			t.Errorf("%.60q: %d %q, %d bytes, closes %v, error %v", c.in, r.status, r.body, size, r.closes, err)
		}
	}
}

// FuzzReadReply writes a response as net/http does, cuts it anywhere, and reads it.
func FuzzReadReply(f *testing.F) {
	f.Add(200, []byte(`{"allowed":true}`), false, 30)
	f.Add(503, []byte("x"), true, 80)
	f.Add(204, []byte(""), false, 3)
	f.Fuzz(func(t *testing.T, status int, body []byte, chunked bool, cut int) {
		if status < 200 || status > 599 || status == 304 || status == 204 && (chunked || len(body) > 0) { // those have no body
			return
		}
		res := http.Response{StatusCode: status, ProtoMajor: 1, ProtoMinor: 1, Body: io.NopCloser(bytes.NewReader(body)), ContentLength: int64(len(body))}
		if chunked {
			res.ContentLength, res.TransferEncoding = -1, []string{"chunked"}
		}
		var b bytes.Buffer
		if err := res.Write(&b); err != nil {
			t.Fatal(err)
		}
		whole := b.Bytes()
		r, size, err := readReply(whole)
		if err != nil || size != len(whole) || r.status != status || !bytes.Equal(r.body, body) {
			t.Fatalf("%q: %d %q, %d of %d bytes, %v", whole, r.status, r.body, size, len(whole), err)
		}
		cut = int(uint(cut) % uint(len(whole)))
		if _, size, err := readReply(whole[:cut]); size != 0 || err != nil {
			t.Fatalf("%q: %d bytes, %v, although it is not whole", whole[:cut], size, err)
		}
	})
}

// FuzzReadReplyRaw reads anything: no panic, and where net/http reads it too, it reads the same.
func FuzzReadReplyRaw(f *testing.F) {
	f.Add([]byte("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"))
	f.Add([]byte("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"))
	f.Add([]byte("HTTP/1.1 200\r\n\r\n"))
	f.Add([]byte("HTTP/1.1 200 \n\nTransT\nabrOK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"))
	f.Add([]byte("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n7fffffff\r\nabc"))
	f.Fuzz(func(t *testing.T, b []byte) {
		r, size, err := readReply(b)
		if size < 0 || size > len(b) || err != nil && size != 0 {
			t.Fatalf("%d of %d bytes, %v", size, len(b), err)
		}
		if size == 0 {
			return
		}
		res, err := http.ReadResponse(bufio.NewReader(bytes.NewReader(b)), nil)
		if err != nil {
			return // net/http knows more ways to be wrong
		}
		defer res.Body.Close()
		body, err := io.ReadAll(res.Body)
		if err == nil && (res.StatusCode != r.status || !bytes.Equal(body, r.body)) {
			t.Fatalf("%q: %d %q, net/http reads %d %q", b, r.status, r.body, res.StatusCode, body)
		}
	})
}

func TestRequestIsReadByNetHTTP(t *testing.T) {
	t.Parallel()
	s := &scene{host: "127.0.0.1:1", tokens: []string{"a", "b"}}
	for _, raw := range [][]byte{s.verify("key", "token", capability), s.newToken("key", "agent"), helloRequest("127.0.0.1:1"), s.fresh("key", withheld)(0)} {
		req, err := http.ReadRequest(bufio.NewReader(bytes.NewReader(raw)))
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(req.Body)
		if err != nil || int64(len(body)) != req.ContentLength || !bytes.HasSuffix(raw, append([]byte("\r\n\r\n"), body...)) || req.Method != "POST" {
			t.Errorf("%q: %q, %v", raw, body, err)
		}
	}
	if got := string(request("GET", "h", "/p", "", "")); got != "GET /p HTTP/1.1\r\nHost: h\r\n\r\n" {
		t.Errorf("%q", got)
	}
}
