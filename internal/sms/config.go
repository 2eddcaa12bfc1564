package sms

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/avouch-dev/avouch/internal/secret"
)

// Config says how text messages leave. Its tags name the variables.
type Config struct {
	Provider    string        `env:"AVOUCH_SMS_PROVIDER" enum:",http,twilio" default:"" help:"http or twilio; no text messages are sent without it"`
	URL         string        `env:"AVOUCH_SMS_URL" help:"http: where to; twilio: instead of its own address"`
	Method      string        `env:"AVOUCH_SMS_METHOD" enum:",POST,PUT,GET" default:"" help:"http: POST (the default), PUT or GET"`
	HeadersFile string        `env:"AVOUCH_SMS_HEADERS_FILE" help:"http: a file with a header on each line, such as Authorization: Bearer ..., readable by its owner alone"`
	Body        string        `env:"AVOUCH_SMS_BODY" help:"http: a JSON object or a form in which {to} and {text} are filled in"`
	Statuses    string        `env:"AVOUCH_SMS_STATUSES" help:"http: statuses that mean taken, such as 200,202; 200 to 299 if empty"`
	Account     string        `env:"AVOUCH_SMS_ACCOUNT" help:"twilio: the account SID, or SID/KEY with an API key"`
	Token       secret.String `env:"AVOUCH_SMS_TOKEN" hidden:"" help:"twilio: the auth token, or the API key's secret"`
	TokenFile   string        `env:"AVOUCH_SMS_TOKEN_FILE" help:"twilio: a file with the auth token, or the API key's secret"`
	From        string        `env:"AVOUCH_SMS_FROM" help:"twilio: the number or sender id to send from, or the SID of a messaging service"`
	CAFile      string        `env:"AVOUCH_SMS_CA_FILE" help:"certificates (PEM) to trust beside the system's"`
	Timeout     time.Duration `kong:"-"` // of one request; 0 means 15 s
}

// New makes the sender that the configuration says. It refuses one with which a message or a credential would travel in the
// clear. It does not connect. Without a provider it returns nil.
func New(c Config) (Sender, error) {
	if c.Provider == "" {
		return nil, nil
	}
	client, err := c.client()
	if err != nil {
		return nil, fmt.Errorf("sms.New: %w", err)
	}
	var s Sender
	switch c.Provider {
	case "http":
		s, err = c.http(client)
	case "twilio":
		s, err = c.twilio(client)
	default:
		err = errors.New("AVOUCH_SMS_PROVIDER is neither http nor twilio")
	}
	if err != nil {
		return nil, fmt.Errorf("sms.New: %w", err)
	}
	return s, nil
}

func (c *Config) client() (*http.Client, error) {
	conf := &tls.Config{MinVersion: tls.VersionTLS12}
	if c.CAFile != "" {
		pem, err := os.ReadFile(c.CAFile)
		if err != nil {
			return nil, fmt.Errorf("AVOUCH_SMS_CA_FILE: %w", err)
		}
		if conf.RootCAs, err = x509.SystemCertPool(); err != nil {
			conf.RootCAs = x509.NewCertPool()
		}
		if !conf.RootCAs.AppendCertsFromPEM(pem) {
			return nil, errors.New("AVOUCH_SMS_CA_FILE holds no certificate")
		}
	}
	if c.Timeout == 0 {
		c.Timeout = 15 * time.Second
	}
	return &http.Client{
		Timeout:       c.Timeout,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Transport: &http.Transport{
			TLSClientConfig: conf, Proxy: http.ProxyFromEnvironment, MaxResponseHeaderBytes: 64 << 10, DisableCompression: true, ForceAttemptHTTP2: true,
			TLSHandshakeTimeout: c.Timeout, MaxIdleConns: 4, IdleConnTimeout: time.Minute, DialContext: (&net.Dialer{Timeout: c.Timeout}).DialContext,
		},
	}, nil
}

// address reads a URL that messages may be sent to. What it refuses it does not quote: it may hold a credential.
func address(name, s string) (*url.URL, error) {
	u, err := url.Parse(s)
	if err != nil || u.Host == "" || u.Fragment != "" || u.User != nil {
		return nil, fmt.Errorf("%s is no URL that can be used: https://host/path, without user and fragment", name)
	}
	if u.Scheme != "https" && !(u.Scheme == "http" && loopback(u.Hostname())) {
		return nil, fmt.Errorf("%s must be https: plain http is for loopback only", name)
	}
	return u, nil
}

func loopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

func (c *Config) http(client *http.Client) (*gateway, error) {
	g := &gateway{client: client, method: c.Method, statuses: map[int]bool{}}
	if g.method == "" {
		g.method = http.MethodPost
	}
	if g.method != http.MethodPost && g.method != http.MethodPut && g.method != http.MethodGet {
		return nil, errors.New("AVOUCH_SMS_METHOD is none of POST, PUT, GET")
	}
	var err error
	if g.url, err = address("AVOUCH_SMS_URL", c.URL); err != nil {
		return nil, err
	}
	if g.header, err = readHeaders(c.HeadersFile); err != nil {
		return nil, err
	}
	if err := g.template(c.Body); err != nil {
		return nil, err
	}
	for s := range strings.SplitSeq(c.Statuses, ",") {
		if s = strings.TrimSpace(s); s == "" {
			continue
		}
		n, err := strconv.Atoi(s)
		if err != nil || n < 200 || n > 299 {
			return nil, errors.New("AVOUCH_SMS_STATUSES is no list of statuses between 200 and 299")
		}
		g.statuses[n] = true
	}
	return g, nil
}

// template reads the body to be filled. Both {to} and {text} must be somewhere in it.
func (g *gateway) template(body string) error {
	if strings.HasPrefix(strings.TrimSpace(body), "{\"") {
		if g.method == http.MethodGet {
			return errors.New("AVOUCH_SMS_BODY is JSON, and GET takes a form")
		}
		d := json.NewDecoder(strings.NewReader(body))
		d.UseNumber()
		if err := d.Decode(&g.json); err != nil || d.More() {
			return errors.New("AVOUCH_SMS_BODY is no JSON object")
		}
	} else {
		form, err := url.ParseQuery(body)
		if err != nil || len(form) == 0 {
			return errors.New("AVOUCH_SMS_BODY is neither a JSON object nor a form")
		}
		g.form = form
	}
	probe, err := g.body(Message{To: "+00000000", Text: "probe-of-text"})
	if err != nil || !bytes.Contains(probe, []byte("00000000")) || !bytes.Contains(probe, []byte("probe-of-text")) {
		return errors.New("AVOUCH_SMS_BODY lacks {to} or {text}")
	}
	return nil
}

// readHeaders reads a file of headers. Its errors quote nothing of it.
func readHeaders(file string) (http.Header, error) {
	h := http.Header{}
	if file == "" {
		return h, nil
	}
	b, err := secret.ReadFile(file, 64<<10)
	if err != nil {
		return nil, fmt.Errorf("AVOUCH_SMS_HEADERS_FILE: %w", err)
	}
	lines := bufio.NewScanner(bytes.NewReader(b))
	for n := 1; lines.Scan(); n++ {
		line := strings.TrimSpace(lines.Text())
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		name, value, ok := strings.Cut(line, ":")
		value = strings.TrimSpace(value)
		if !ok || name == "" || strings.ContainsFunc(name, func(c rune) bool { return c <= ' ' || c > '~' || strings.ContainsRune(`()<>@,;:\"/[]?={}`, c) }) ||
			strings.ContainsFunc(value, func(c rune) bool { return c < ' ' && c != '\t' || c == 0x7f }) {
			return nil, fmt.Errorf("AVOUCH_SMS_HEADERS_FILE: line %d is no header (Name: value)", n)
		}
		h.Add(name, value)
	}
	if lines.Err() != nil {
		return nil, errors.New("AVOUCH_SMS_HEADERS_FILE has a line that is too long")
	}
	return h, nil
}

// inHeader is what headers are called that hold a credential.
var inHeader = regexp.MustCompile(`(?i)auth|key|token|secret|password|account|user|cookie`)

// Credentials are what the provider knows a sender by, by what they are called: the account and its token, or headers.
func (c Config) Credentials() (map[string]secret.String, error) {
	all := map[string]secret.String{}
	switch c.Provider {
	case "twilio":
		token, err := c.token()
		if err != nil {
			return nil, fmt.Errorf("sms.Credentials: %w", err)
		}
		all["account"], all["token"] = secret.Text(c.Account), token
	case "http":
		headers, err := readHeaders(c.HeadersFile)
		if err != nil {
			return nil, fmt.Errorf("sms.Credentials: %w", err)
		}
		for name, values := range headers {
			if inHeader.MatchString(name) && name != "User-Agent" {
				all["header "+name] = secret.Text(strings.Join(values, "\n"))
			}
		}
	}
	return all, nil
}

func (c *Config) token() (secret.String, error) {
	if !c.Token.IsZero() || c.TokenFile == "" {
		return c.Token, nil
	}
	b, err := secret.ReadFile(c.TokenFile, 4<<10)
	if err != nil {
		return secret.String{}, fmt.Errorf("AVOUCH_SMS_TOKEN_FILE: %w", err)
	}
	return secret.Text(strings.TrimSpace(string(b))), nil
}
