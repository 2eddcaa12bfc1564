package password

import (
	"bufio"
	"bytes"
	"context"
	"crypto/fips140"
	"crypto/sha1" //nolint:gosec // of the protocol; it protects nothing here
	"crypto/tls"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// The bounds of one question to an endpoint. An answer has some 2,000 lines of 40 bytes.
const (
	rangePatience = 3 * time.Second
	mostAnswer    = 1 << 20
	prefixDigits  = 5
)

// sha1Of is the name of a password in every breached list.
func sha1Of(clean []byte) (digest [sha1.Size]byte) {
	// Where FIPS mode is enforced, SHA-1 is refused. It is no security function here.
	fips140.WithoutEnforcement(func() { digest = sha1.Sum(clean) }) //nolint:gosec // see above
	return digest
}

// ranges asks an endpoint by the range protocol: of a password's SHA-1 it learns five digits, which thousands of passwords
// share, and answers with all that it knows under them.
type ranges struct {
	base     string
	client   *http.Client
	patience time.Duration // but for tests, rangePatience
}

func newRanges(base string, transport http.RoundTripper) (*ranges, error) {
	u, err := url.Parse(base)
	if err != nil || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return nil, errors.New("the address of the breached list must be like https://api.pwnedpasswords.com/range")
	}
	if u.Scheme != "https" && (u.Scheme != "http" || !loopback(u.Hostname())) {
		return nil, errors.New("the address of the breached list must begin with https://, or be on this machine")
	}
	if transport == nil {
		transport = &http.Transport{
			Proxy: http.ProxyFromEnvironment, TLSClientConfig: &tls.Config{MinVersion: tls.VersionTLS12}, ForceAttemptHTTP2: true,
			MaxIdleConns: 4, IdleConnTimeout: time.Minute, MaxResponseHeaderBytes: 64 << 10,
		}
	}
	stay := func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return &ranges{strings.TrimRight(u.String(), "/"), &http.Client{Transport: transport, CheckRedirect: stay}, rangePatience}, nil
}

func loopback(host string) bool {
	a, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && a.IsLoopback()
}

// has tells whether the endpoint knows a digest. No error names the prefix.
func (r *ranges) has(ctx context.Context, digest [sha1.Size]byte) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, r.patience)
	defer cancel()
	name := strings.ToUpper(hex.EncodeToString(digest[:]))
	q, err := http.NewRequestWithContext(ctx, http.MethodGet, r.base+"/"+name[:prefixDigits], nil)
	if err != nil {
		return false, errors.New("the breached list cannot be asked: its address is not one")
	}
	q.Header.Set("Add-Padding", "true") // so that the length of the answer does not tell the prefix
	q.Header.Set("User-Agent", "avouch")
	answer, err := r.client.Do(q)
	if err != nil {
		var told *url.Error // it quotes the address, prefix and all
		if errors.As(err, &told) {
			err = told.Err
		}
		return false, fmt.Errorf("the breached list cannot be asked: %w", err)
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		return false, fmt.Errorf("the breached list answered with status %d", answer.StatusCode)
	}
	body, err := io.ReadAll(io.LimitReader(answer.Body, mostAnswer+1))
	if err != nil {
		return false, fmt.Errorf("the answer of the breached list cannot be read: %w", err)
	}
	return inAnswer(body, name[prefixDigits:])
}

// inAnswer looks for the rest of a digest in an answer. Lines with the count 0 are padding. What is not an answer to the last line
// is an error: half of one would take a known password for unknown.
func inAnswer(body []byte, rest string) (found bool, err error) {
	if len(body) > mostAnswer {
		return false, fmt.Errorf("the answer of the breached list is longer than %d bytes", mostAnswer)
	}
	lines, n := bufio.NewScanner(bytes.NewReader(body)), 0
	for lines.Scan() {
		line := strings.TrimSuffix(lines.Text(), "\r")
		suffix, count, cut := strings.Cut(line, ":")
		times, err := strconv.ParseUint(count, 10, 63)
		if !cut || err != nil || len(suffix) != len(rest) || strings.Trim(suffix, "0123456789ABCDEFabcdef") != "" {
			return false, fmt.Errorf("line %d of the answer of the breached list is not a suffix and a count", n+1)
		}
		if n++; times > 0 && strings.EqualFold(suffix, rest) {
			found = true
		}
	}
	if err := lines.Err(); err != nil {
		return false, errors.New("the answer of the breached list is not one of lines")
	}
	if n == 0 { // every prefix has hashes
		return false, errors.New("the answer of the breached list is empty")
	}
	return found, nil
}
