package transit

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/avouch-dev/avouch/internal/secret"
	"github.com/avouch-dev/avouch/keyring"
)

// Config says which key of which engine wraps.
type Config struct {
	Address   string // https://bao.example:8200
	Mount     string // of the engine; "" is transit
	Key       string // an AEAD key: aes256-gcm96, which is usual, or chacha20-poly1305
	Namespace string // may be empty
	CAFile    string // authorities beside the system's, PEM; may be empty
	Login     Login
	Timeout   time.Duration // of a call; 0 is 5 s
	HTTP      *http.Client  // reaches the engine, in place of a client of its own, and then CAFile is its affair; nil is that
}

// Wrapper is a key of a transit engine.
type Wrapper struct {
	cfg    Config
	http   *http.Client
	tokens *tokens
}

// What may be wrong with the settings, for those who are told by the field.
var (
	ErrAddress = errors.New("the address must be https://host:port, or http:// of this machine: keys travel there")
	ErrKeyName = errors.New("the name of the key is missing, or is none")
)

// New makes a wrapper. It asks the engine nothing yet.
func New(c Config) (*Wrapper, error) {
	at, err := url.Parse(c.Address)
	if err != nil || at.Scheme != "https" && !loopback(at) || at.Host == "" || at.User != nil || at.RawQuery != "" {
		return nil, fmt.Errorf("transit.New: %w", ErrAddress)
	}
	if c.Key == "" || strings.ContainsAny(c.Key, "/?#%") {
		return nil, fmt.Errorf("transit.New: %w", ErrKeyName)
	}
	if err := c.Login.check(); err != nil {
		return nil, fmt.Errorf("transit.New: %w", err)
	}
	if c.Mount = strings.Trim(c.Mount, "/"); c.Mount == "" {
		c.Mount = "transit"
	}
	if c.Timeout == 0 {
		c.Timeout = 5 * time.Second
	}
	c.Address = strings.TrimRight(c.Address, "/")
	var reach http.RoundTripper
	if c.HTTP != nil {
		reach = c.HTTP.Transport
	} else {
		roots, err := authorities(c.CAFile)
		if err != nil {
			return nil, fmt.Errorf("transit.New: %w", err)
		}
		reach = &http.Transport{TLSClientConfig: &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: roots}, ForceAttemptHTTP2: true, MaxIdleConnsPerHost: 8, IdleConnTimeout: time.Minute}
	}
	w := &Wrapper{cfg: c, http: &http.Client{
		Timeout:       c.Timeout,
		Transport:     reach,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }, // a standby forwards by itself; to another host no token goes
	}}
	w.tokens = newTokens(c.Login, w.call)
	return w, nil
}

func loopback(u *url.URL) bool {
	return u.Scheme == "http" && slices.Contains([]string{"localhost", "127.0.0.1", "::1"}, u.Hostname())
}

func authorities(file string) (*x509.CertPool, error) {
	if file == "" {
		return nil, nil
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	roots, err := x509.SystemCertPool()
	if err != nil {
		roots = x509.NewCertPool()
	}
	if !roots.AppendCertsFromPEM(text) {
		return nil, fmt.Errorf("%s holds no certificate", file)
	}
	return roots, nil
}

// KeyID names the key in what it wraps.
func (w *Wrapper) KeyID() string { return "transit/" + w.cfg.Mount + "/" + w.cfg.Key }

// Wrap encrypts a key under the newest version of the engine's.
func (w *Wrapper) Wrap(ctx context.Context, key secret.Bytes, b keyring.Binding) (keyring.Wrapped, error) {
	var out struct {
		Ciphertext string `json:"ciphertext"`
	}
	err := w.ask(ctx, "encrypt", map[string]string{"plaintext": base64.StdEncoding.EncodeToString(key.Expose()), "associated_data": w.associated(b)}, &out)
	if err != nil {
		return keyring.Wrapped{}, fmt.Errorf("transit.Wrap: %w", err)
	}
	version, err := versionOf(out.Ciphertext)
	if err != nil {
		return keyring.Wrapped{}, fmt.Errorf("transit.Wrap: %w", err)
	}
	return keyring.Wrapped{KeyID: w.KeyID(), KeyVersion: version, Blob: []byte(out.Ciphertext)}, nil
}

// Unwrap decrypts what Wrap made.
func (w *Wrapper) Unwrap(ctx context.Context, k keyring.Wrapped, b keyring.Binding) (secret.Bytes, error) {
	if k.KeyID != w.KeyID() {
		return secret.Bytes{}, fmt.Errorf("transit.Unwrap: wrapped under %q, not %q: %w", k.KeyID, w.KeyID(), keyring.ErrSealed)
	}
	if version, err := versionOf(string(k.Blob)); err != nil || version != k.KeyVersion {
		return secret.Bytes{}, fmt.Errorf("transit.Unwrap: %w", keyring.ErrSealed)
	}
	var out struct {
		Plaintext string `json:"plaintext"`
	}
	if err := w.ask(ctx, "decrypt", map[string]string{"ciphertext": string(k.Blob), "associated_data": w.associated(b)}, &out); err != nil {
		return secret.Bytes{}, fmt.Errorf("transit.Unwrap: %w", err)
	}
	plain, err := base64.StdEncoding.DecodeString(out.Plaintext)
	if err != nil {
		return secret.Bytes{}, errors.New("transit.Unwrap: the engine's answer is none")
	}
	return secret.Own(plain), nil
}

// Describe asks the engine for its key.
func (w *Wrapper) Describe(ctx context.Context) (keyring.Description, error) {
	var out struct {
		Type     string         `json:"type"`
		Latest   uint32         `json:"latest_version"`
		Least    uint32         `json:"min_decryption_version"`
		Versions map[string]any `json:"keys"` // when each was made, of a symmetric key
	}
	if err := w.asking(ctx, http.MethodGet, w.cfg.Mount+"/keys/"+w.cfg.Key, nil, &out); err != nil {
		return keyring.Description{}, fmt.Errorf("transit.Describe: %w", err)
	}
	if !strings.Contains(out.Type, "gcm") && !strings.Contains(out.Type, "poly1305") {
		return keyring.Description{}, fmt.Errorf("transit.Describe: the key %s is of type %q, which binds nothing; make one of type aes256-gcm96", w.cfg.Key, out.Type)
	}
	d := keyring.Description{Kind: "transit", KeyID: w.KeyID(), Version: out.Latest}
	for name, made := range out.Versions {
		v, err := strconv.ParseUint(name, 10, 32)
		if err == nil && uint32(v) >= out.Least {
			d.Versions = append(d.Versions, uint32(v))
		}
		if at, ok := made.(float64); ok && err == nil && uint32(v) == out.Latest {
			d.Since = time.Unix(int64(at), 0)
		}
	}
	slices.Sort(d.Versions)
	return d, nil
}

// associated is what ties a wrap to its place. The engine's version of the key is in the ciphertext, which the engine authenticates.
func (w *Wrapper) associated(b keyring.Binding) string {
	return base64.StdEncoding.EncodeToString(keyring.AssociatedData(b, w.KeyID()))
}

// versionOf is the version that a ciphertext names: vault:v3:...
func versionOf(ciphertext string) (uint32, error) {
	rest, ok := strings.CutPrefix(ciphertext, "vault:v")
	number, _, more := strings.Cut(rest, ":")
	v, err := strconv.ParseUint(number, 10, 32)
	if !ok || !more || err != nil || v == 0 {
		return 0, errors.New("the engine's answer is no ciphertext")
	}
	return uint32(v), nil
}

func (w *Wrapper) ask(ctx context.Context, operation string, in map[string]string, out any) error {
	return w.asking(ctx, http.MethodPost, w.cfg.Mount+"/"+operation+"/"+w.cfg.Key, in, out)
}
