package gcpkms

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/oauth2"
	"golang.org/x/oauth2/google"
	"golang.org/x/sync/singleflight"

	"github.com/avouch-dev/avouch/internal/secret"
	"github.com/avouch-dev/avouch/keyring"
)

// Config says which key wraps.
type Config struct {
	Key      string             // projects/P/locations/L/keyRings/R/cryptoKeys/K
	Endpoint string             // "" is the service's
	Tokens   oauth2.TokenSource // nil is the credentials of the machine: GOOGLE_APPLICATION_CREDENTIALS, or its metadata server
	Timeout  time.Duration      // of a call; 0 is 5 s
	HTTP     *http.Client       // reaches the service; nil is a client without limits of where it goes
}

// ServiceAccount are the credentials of a service account, from the JSON of one of its keys: of no other kind, since some have this
// machine read its files, ask its metadata server or run programs. The client reaches Google, which the JSON names.
func ServiceAccount(text secret.String, client *http.Client) (oauth2.TokenSource, error) {
	c, err := google.JWTConfigFromJSON([]byte(text.Expose()), scope)
	if err != nil { // its text may quote the JSON
		return nil, errors.New("gcpkms.ServiceAccount: want the JSON of a service account's key")
	}
	return c.TokenSource(context.WithValue(context.Background(), oauth2.HTTPClient, bounded(client, tokenTimeout))), nil
}

// tokenTimeout is how long fetching a token may take where the client says nothing. Who waits for it is not held for longer than his own call
// may take; but all share one fetch, and one that hangs must end.
const tokenTimeout = 5 * time.Second

func bounded(client *http.Client, most time.Duration) *http.Client {
	c := http.Client{}
	if client != nil {
		c = *client
	}
	if c.Timeout == 0 || c.Timeout > most {
		c.Timeout = most
	}
	return &c
}

const scope = "https://www.googleapis.com/auth/cloudkms"

var keyName = regexp.MustCompile(`^projects/[a-z0-9][a-z0-9:.-]*/locations/[a-z0-9-]+/keyRings/[A-Za-z0-9_-]{1,63}/cryptoKeys/[A-Za-z0-9_-]{1,63}$`)

// Wrapper is a key of the service.
type Wrapper struct {
	cfg    Config
	http   *http.Client
	tokens *singleflight.Group
}

// New makes a wrapper. It asks the service nothing yet.
func New(ctx context.Context, c Config) (*Wrapper, error) {
	if !keyName.MatchString(c.Key) {
		return nil, errors.New("gcpkms.New: want the key as projects/P/locations/L/keyRings/R/cryptoKeys/K")
	}
	if c.Endpoint == "" {
		c.Endpoint = "https://cloudkms.googleapis.com"
	}
	at, err := url.Parse(c.Endpoint)
	if err != nil || at.Host == "" || at.User != nil || at.Scheme != "https" && !(at.Scheme == "http" && slices.Contains([]string{"localhost", "127.0.0.1", "::1"}, at.Hostname())) {
		return nil, errors.New("gcpkms.New: the address must be https://host, or http:// of this machine: keys travel there")
	}
	if c.Timeout == 0 {
		c.Timeout = 5 * time.Second
	}
	if c.Tokens == nil {
		ctx = context.WithValue(context.WithoutCancel(ctx), oauth2.HTTPClient, bounded(nil, c.Timeout)) // it is kept for as long as the tokens are wanted
		found, err := google.FindDefaultCredentials(ctx, scope)
		if err != nil {
			return nil, errors.New("gcpkms.New: no credentials: set GOOGLE_APPLICATION_CREDENTIALS, or run where Google gives an identity") // the library's text may quote the file
		}
		c.Tokens = found.TokenSource
	}
	base := http.DefaultTransport
	if c.HTTP != nil {
		base = c.HTTP.Transport
	}
	return &Wrapper{cfg: c, tokens: &singleflight.Group{}, http: &http.Client{
		Timeout:       c.Timeout,
		Transport:     base,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}, nil
}

// token is one in force. The library's sources know no context: who waits for one goes when his time is over, and the fetch goes on for the
// others.
func (w *Wrapper) token(ctx context.Context) (*oauth2.Token, error) {
	fetch := w.tokens.DoChan("", func() (any, error) { return w.cfg.Tokens.Token() })
	select {
	case <-ctx.Done():
		return nil, fmt.Errorf("%w: the credentials give no token in time: %w", keyring.ErrSilent, ctx.Err())
	case got := <-fetch:
		token, ok := got.Val.(*oauth2.Token)
		if refused := (*oauth2.RetrieveError)(nil); errors.As(got.Err, &refused) { // its text is what the token's server answered
			return nil, fmt.Errorf("%w: the credentials give no token", keyring.ErrRefused)
		}
		if got.Err != nil || !ok || token == nil {
			return nil, fmt.Errorf("%w: the credentials give no token: %w", keyring.ErrSilent, got.Err)
		}
		return token, nil
	}
}

// KeyID names the key in what it wraps.
func (w *Wrapper) KeyID() string { return "gcpkms/" + w.cfg.Key }

// checksum is CRC-32C, in JSON as text: a 64-bit integer there.
type checksum string

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func sum(b []byte) checksum {
	return checksum(strconv.FormatUint(uint64(crc32.Checksum(b, castagnoli)), 10))
}

// Wrap encrypts a key under the primary version.
func (w *Wrapper) Wrap(ctx context.Context, key secret.Bytes, b keyring.Binding) (keyring.Wrapped, error) {
	aad := keyring.AssociatedData(b, w.KeyID())
	in := map[string]any{
		"plaintext": key.Expose(), "plaintextCrc32c": sum(key.Expose()), "additionalAuthenticatedData": aad, "additionalAuthenticatedDataCrc32c": sum(aad),
	}
	var out struct {
		Name       string   `json:"name"`
		Ciphertext []byte   `json:"ciphertext"`
		Sum        checksum `json:"ciphertextCrc32c"`
		Plain      bool     `json:"verifiedPlaintextCrc32c"`
		Associated bool     `json:"verifiedAdditionalAuthenticatedDataCrc32c"`
	}
	if err := w.ask(ctx, http.MethodPost, w.cfg.Key+":encrypt", in, &out); err != nil {
		return keyring.Wrapped{}, fmt.Errorf("gcpkms.Wrap: %w", err)
	}
	if !out.Plain || !out.Associated || out.Sum != sum(out.Ciphertext) {
		return keyring.Wrapped{}, fmt.Errorf("gcpkms.Wrap: %w", ErrAltered)
	}
	version, err := w.versionOf(out.Name)
	if err != nil {
		return keyring.Wrapped{}, fmt.Errorf("gcpkms.Wrap: %w", err)
	}
	return keyring.Wrapped{KeyID: w.KeyID(), KeyVersion: version, Blob: out.Ciphertext}, nil
}

// Unwrap decrypts what Wrap made.
func (w *Wrapper) Unwrap(ctx context.Context, k keyring.Wrapped, b keyring.Binding) (secret.Bytes, error) {
	if k.KeyID != w.KeyID() {
		return secret.Bytes{}, fmt.Errorf("gcpkms.Unwrap: wrapped under %q, not %q: %w", k.KeyID, w.KeyID(), keyring.ErrSealed)
	}
	aad := keyring.AssociatedData(b, w.KeyID())
	in := map[string]any{
		"ciphertext": k.Blob, "ciphertextCrc32c": sum(k.Blob), "additionalAuthenticatedData": aad, "additionalAuthenticatedDataCrc32c": sum(aad),
	}
	var out struct {
		Plaintext []byte   `json:"plaintext"`
		Sum       checksum `json:"plaintextCrc32c"`
	}
	if err := w.ask(ctx, http.MethodPost, w.cfg.Key+":decrypt", in, &out); err != nil {
		return secret.Bytes{}, fmt.Errorf("gcpkms.Unwrap: %w", err)
	}
	if out.Sum != sum(out.Plaintext) {
		clear(out.Plaintext)
		return secret.Bytes{}, fmt.Errorf("gcpkms.Unwrap: %w", ErrAltered)
	}
	return secret.Own(out.Plaintext), nil
}

// Describe asks the service for its key.
func (w *Wrapper) Describe(ctx context.Context) (keyring.Description, error) {
	var out struct {
		Purpose string `json:"purpose"`
		Primary struct {
			Name  string    `json:"name"`
			State string    `json:"state"`
			Made  time.Time `json:"createTime"`
		} `json:"primary"`
	}
	if err := w.ask(ctx, http.MethodGet, w.cfg.Key, nil, &out); err != nil {
		return keyring.Description{}, fmt.Errorf("gcpkms.Describe: %w", err)
	}
	if out.Purpose != "ENCRYPT_DECRYPT" || out.Primary.State != "ENABLED" {
		return keyring.Description{}, fmt.Errorf("gcpkms.Describe: the key must be for ENCRYPT_DECRYPT with an enabled primary version; it is for %.40q, and that %.40q", out.Purpose, out.Primary.State)
	}
	primary, err := w.versionOf(out.Primary.Name)
	if err != nil {
		return keyring.Description{}, fmt.Errorf("gcpkms.Describe: %w", err)
	}
	d := keyring.Description{Kind: "gcpkms", KeyID: w.KeyID(), Version: primary, Since: out.Primary.Made}
	var list struct {
		Versions []struct {
			Name  string `json:"name"`
			State string `json:"state"`
		} `json:"cryptoKeyVersions"`
	}
	if err := w.ask(ctx, http.MethodGet, w.cfg.Key+"/cryptoKeyVersions?pageSize=1000", nil, &list); err != nil {
		return keyring.Description{}, fmt.Errorf("gcpkms.Describe: %w", err)
	}
	for _, v := range list.Versions {
		if n, err := w.versionOf(v.Name); err == nil && v.State == "ENABLED" {
			d.Versions = append(d.Versions, n)
		}
	}
	slices.Sort(d.Versions)
	return d, nil
}

func (w *Wrapper) versionOf(name string) (uint32, error) {
	number, ok := strings.CutPrefix(name, w.cfg.Key+"/cryptoKeyVersions/")
	v, err := strconv.ParseUint(number, 10, 32)
	if !ok || err != nil || v == 0 {
		return 0, errors.New("the key management's answer names no version of the key")
	}
	return uint32(v), nil
}

// ErrAltered means that a checksum of what was sent or answered does not fit.
var ErrAltered = fmt.Errorf("%w: what went to or came from it was altered on the way", keyring.ErrSilent)

const mostAnswer = 1 << 20

// ask makes one request. Its errors hold nothing of what was sent or answered.
func (w *Wrapper) ask(ctx context.Context, method, path string, in, out any) error {
	var body io.Reader
	if in != nil {
		b, err := json.Marshal(in)
		if err != nil {
			return err
		}
		defer clear(b)
		body = bytes.NewReader(b)
	}
	ctx, cancel := context.WithTimeout(ctx, w.cfg.Timeout)
	defer cancel()
	token, err := w.token(ctx)
	if err != nil {
		return err
	}
	q, err := http.NewRequestWithContext(ctx, method, w.cfg.Endpoint+"/v1/"+path, body)
	if err != nil {
		return err
	}
	q.Header.Set("Content-Type", "application/json")
	token.SetAuthHeader(q)
	resp, err := w.http.Do(q)
	if err != nil {
		return fmt.Errorf("%w: %w", keyring.ErrSilent, err)
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(resp.Body, mostAnswer))
	defer clear(answer)
	if err != nil {
		return fmt.Errorf("%w: %w", keyring.ErrSilent, err)
	}
	if err := judge(resp.StatusCode, strings.HasSuffix(path, ":decrypt"), answer); err != nil {
		return err
	}
	if err := json.Unmarshal(answer, out); err != nil {
		return errors.New("the key management's answer is another than is documented")
	}
	return nil
}

// What is to be told apart of refusals: that there is no such key, and that it is in a state in which that cannot be done.
var (
	errMissing = fmt.Errorf("%w: status %d", keyring.ErrRefused, http.StatusNotFound)
	errState   = fmt.Errorf("%w: status %d, FAILED_PRECONDITION", keyring.ErrRefused, http.StatusBadRequest)
)

// judge says what the status of an answer means. Of a version that is disabled, or scheduled to be destroyed, it is 400 as of a
// ciphertext that is none: the answer tells them apart.
func judge(status int, decrypting bool, answer []byte) error {
	switch {
	case status/100 == 2:
		return nil
	case status == http.StatusBadRequest && decrypting && !precondition(answer):
		return keyring.ErrSealed
	case status == http.StatusNotFound:
		return errMissing
	case status == http.StatusBadRequest && precondition(answer):
		return errState
	case status/100 == 5 || status == http.StatusTooManyRequests:
		return fmt.Errorf("%w: status %d", keyring.ErrSilent, status)
	}
	return fmt.Errorf("%w: status %d", keyring.ErrRefused, status)
}

func precondition(answer []byte) bool {
	var e struct {
		Error struct {
			Status string `json:"status"`
		} `json:"error"`
	}
	return json.Unmarshal(answer, &e) == nil && e.Error.Status == "FAILED_PRECONDITION"
}
