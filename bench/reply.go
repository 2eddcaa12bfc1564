package main

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"
)

// reply is one HTTP/1.1 response in a buffer.
type reply struct {
	status int
	body   []byte
	closes bool // the server will take no further request on the connection
}

// errReply says that what was read is not a response that the generator understands.
var errReply = errors.New("not an HTTP/1.1 response with a length")

// mostHead is how long the head of a response may be.
const mostHead = 64 << 10

// readReply reads the response at the start of b and says how many bytes it has. No bytes and no error: b does not hold
// all of it yet. It knows what our servers send (a length, or chunks) and nothing more: it shares the machine with them.
func readReply(b []byte) (r reply, size int, err error) {
	end := bytes.Index(b, []byte("\r\n\r\n"))
	if end < 0 {
		if len(b) > mostHead {
			return r, 0, fmt.Errorf("%w: its head has no end", errReply)
		}
		return r, 0, nil
	}
	if bytes.Count(b[:end+2], []byte("\n")) != bytes.Count(b[:end+2], []byte("\r\n")) {
		return r, 0, fmt.Errorf("%w: a line of its head ends in \\n alone", errReply) // where others see the head's end
	}
	line, fields, _ := bytes.Cut(b[:end+2], []byte("\r\n"))
	if r.status, err = statusOf(line); err != nil {
		return r, 0, err
	}
	length, chunked := -1, false
	for len(fields) > 0 {
		var field []byte
		field, fields, _ = bytes.Cut(fields, []byte("\r\n"))
		name, value, _ := bytes.Cut(field, []byte(":"))
		value = bytes.TrimSpace(value)
		switch {
		case is(name, "content-length"):
			if length, err = strconv.Atoi(string(value)); err != nil || length < 0 || value[0] == '+' {
				return r, 0, fmt.Errorf("%w: Content-Length", errReply)
			}
		case is(name, "transfer-encoding"):
			chunked = is(value, "chunked")
		case is(name, "connection"):
			r.closes = is(value, "close")
		}
	}
	rest := b[end+4:]
	switch {
	case r.status == 204 || r.status == 304:
		return r, end + 4, nil
	case chunked:
		body, n, err := chunks(rest)
		if n == 0 || err != nil {
			return reply{}, 0, err
		}
		r.body = body
		return r, end + 4 + n, nil
	case length < 0:
		return r, 0, fmt.Errorf("%w: it has none", errReply)
	case len(rest) < length:
		return reply{}, 0, nil
	}
	r.body = rest[:length]
	return r, end + 4 + length, nil
}

func is(b []byte, lower string) bool {
	return len(b) == len(lower) && bytes.EqualFold(b, []byte(lower))
}

func statusOf(line []byte) (int, error) {
	code, ok := bytes.CutPrefix(line, []byte("HTTP/1.1 "))
	if !ok || len(code) < 3 || len(code) > 3 && code[3] != ' ' {
		return 0, fmt.Errorf("%w: status line", errReply)
	}
	n := 0
	for _, c := range code[:3] {
		if c < '0' || c > '9' {
			return 0, fmt.Errorf("%w: status line", errReply)
		}
		n = 10*n + int(c-'0')
	}
	if n < 200 || n > 599 {
		return 0, fmt.Errorf("%w: status %d", errReply, n)
	}
	return n, nil
}

// chunks puts a chunked body together, and says how many bytes it took; none if it is not complete.
func chunks(b []byte) (body []byte, size int, err error) {
	for at := 0; ; {
		nl := bytes.Index(b[at:], []byte("\r\n"))
		if nl < 0 {
			return nil, 0, nil
		}
		n, err := strconv.ParseUint(string(b[at:at+nl]), 16, 31)
		if err != nil {
			return nil, 0, fmt.Errorf("%w: size of a chunk", errReply)
		}
		at += nl + 2
		if len(b)-at < int(n)+2 {
			return nil, 0, nil
		}
		if b[at+int(n)] != '\r' || b[at+int(n)+1] != '\n' {
			return nil, 0, fmt.Errorf("%w: end of a chunk", errReply)
		}
		body = append(body, b[at:at+int(n)]...)
		at += int(n) + 2
		if n == 0 {
			return body, at, nil
		}
	}
}
