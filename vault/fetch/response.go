package fetch

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"slices"
	"strings"
	"unicode/utf8"
)

// Response is what an agent is told of an answer. It holds no listed form of the secret.
type Response struct {
	Status int `json:"status" doc:"As the host answered" example:"200"`
	// Header, Body and BodyBase64 are nothing if the answer was to be reduced.
	Header     map[string][]string        `json:"header,omitempty" doc:"Those that say something of the answer; no cookies. Absent where it was reduced"`
	Body       string                     `json:"body,omitempty" doc:"A body that is text. Absent where it was reduced"`
	BodyBase64 string                     `json:"body_base64,omitempty" doc:"A body that is no text, in base64"`
	Values     map[string]json.RawMessage `json:"values,omitempty" doc:"What was found, by pointer; what is not there is left out"`
	Truncated  bool                       `json:"truncated,omitempty" doc:"The body was longer than 1 MiB, and is cut off there"`
	Masked     int                        `json:"masked" doc:"In how many places the secret was, where [secret] stands now"`
	Redirects  int                        `json:"redirects,omitempty" doc:"How many were followed, within the host"`
}

// shown are the headers that an agent sees. Cookies are not among them: they would be credentials that it holds.
var shown = []string{
	"Allow", "Cache-Control", "Content-Disposition", "Content-Language", "Content-Type", "Date", "Deprecation", "Etag", "Expires",
	"Last-Modified", "Link", "Location", "Ratelimit", "Ratelimit-Limit", "Ratelimit-Policy", "Ratelimit-Remaining", "Ratelimit-Reset",
	"Request-Id", "Retry-After", "Sunset", "Www-Authenticate", "X-Ratelimit-Limit", "X-Ratelimit-Remaining", "X-Ratelimit-Reset",
	"X-Request-Id", "X-Total-Count",
}

// read is what an agent is told of an answer.
func (f *Fetcher) read(ctx context.Context, m *mask, r Request, answer *http.Response) (Response, error) {
	out := Response{Status: answer.StatusCode}
	if r.Reduce.Status {
		return out, nil
	}
	from, err := plain(answer, f.mostAnswer)
	if err != nil {
		return Response{}, failed(err)
	}
	if len(r.Reduce.Pointers) > 0 {
		err := f.reduce(ctx, m, r.Reduce.Pointers, from, &out)
		return out, err
	}
	out.Header = map[string][]string{}
	for _, name := range shown {
		for _, value := range answer.Header.Values(name) {
			text, n := m.text(strings.ToValidUTF8(value, "�"))
			out.Header[name], out.Masked = append(out.Header[name], text), out.Masked+n
		}
	}
	clean := m.reader(from, f.mostAnswer)
	body, err := io.ReadAll(clean)
	if err != nil {
		return Response{}, failed(err)
	}
	out.Truncated, out.Masked = clean.cut(), out.Masked+clean.stream.count
	if out.Truncated {
		body = wholeRunes(body)
	}
	switch {
	case utf8.Valid(body) && !slices.Contains(body, 0):
		out.Body = string(body)
	case compressed(body):
		return Response{}, ErrCompressed
	default:
		out.BodyBase64 = base64.StdEncoding.EncodeToString(body)
	}
	return out, nil
}

// compressed reports a body, which is no text, that begins as what is compressed does: by gzip, compress, zstd, bzip2, xz, LZ4, zip, 7z, and
// by zlib, whose two bytes are a method, a size and what makes them divisible by 31. Brotli cannot be known.
func compressed(body []byte) bool {
	for _, magic := range []string{"\x1f\x8b", "\x1f\x9d", "\x28\xb5\x2f\xfd", "BZh", "\xfd7zXZ\x00", "\x04\x22\x4d\x18", "PK\x03\x04", "7z\xbc\xaf\x27\x1c"} {
		if bytes.HasPrefix(body, []byte(magic)) {
			return true
		}
	}
	return len(body) >= 2 && body[0]&0xf == 8 && body[0]>>4 <= 7 && (int(body[0])<<8+int(body[1]))%31 == 0
}

// wholeRunes leaves out a letter that was cut through.
func wholeRunes(b []byte) []byte {
	for i := 1; i < utf8.UTFMax && i <= len(b); i++ {
		if tail := b[len(b)-i:]; utf8.RuneStart(tail[0]) {
			if !utf8.FullRune(tail) {
				return b[:len(b)-i]
			}
			break
		}
	}
	return b
}

// reduce follows pointers, in few answers at once: that takes memory and a processor, and no host can keep it from its end. In a body that
// is no JSON they find nothing, as the status will say.
func (f *Fetcher) reduce(ctx context.Context, m *mask, pointers []string, from io.Reader, out *Response) error {
	body, err := io.ReadAll(io.LimitReader(from, f.mostAnswer+1))
	defer clear(body)
	if err != nil {
		return failed(err)
	}
	if int64(len(body)) > f.mostAnswer {
		return ErrTooLong
	}
	select {
	case f.reducing <- struct{}{}:
		defer func() { <-f.reducing }()
	case <-ctx.Done():
		return failed(ctx.Err())
	}
	out.Values, out.Masked, err = m.cut(body, pointers, f.mostAnswer)
	if errors.Is(err, errNoJSON) {
		return nil
	}
	return err
}

var errEncoding = errors.New("an encoding that was not asked for")

// plain is an answer's body as it was before it was encoded. Some hosts compress whatever is asked for.
func plain(answer *http.Response, most int64) (io.Reader, error) {
	switch encoding := strings.ToLower(strings.Join(answer.Header.Values("Content-Encoding"), ",")); encoding {
	case "", "identity":
		return answer.Body, nil
	case "gzip", "x-gzip":
		from, err := gzip.NewReader(io.LimitReader(answer.Body, most+64<<10)) // what decompresses to nothing must end too
		if errors.Is(err, io.EOF) {
			return strings.NewReader(""), nil // there is no body, as after HEAD
		}
		return from, err
	}
	return nil, errEncoding
}
