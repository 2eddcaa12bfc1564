package awskms

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"

	"github.com/avouch-dev/avouch/internal/secret"
	"github.com/avouch-dev/avouch/keyring"
)

// Config says which key wraps.
type Config struct {
	Key         string                  // its ARN: arn:aws:kms:REGION:ACCOUNT:key/ID. An alias could come to name another
	Endpoint    string                  // "" is the region's
	Credentials aws.CredentialsProvider // nil is what the machine gives: see credentials.go
	Timeout     time.Duration           // of a call; 0 is 5 s
	Getenv      func(string) string     // nil is the environment of the process
}

var keyName = regexp.MustCompile(`^arn:(aws(?:-[a-z-]+)?):kms:([a-z0-9-]+):[0-9]{12}:key/[A-Za-z0-9-]+$`)

// Wrapper is a key of the service.
type Wrapper struct {
	secret.Hidden
	key, region string
	endpoint    string
	http        *http.Client
	credentials aws.CredentialsProvider
	now         func() time.Time

	mu      sync.Mutex
	version uint32 // as of checked
	checked time.Time
}

// New makes a wrapper. It asks the service nothing yet.
func New(c Config) (*Wrapper, error) {
	parts := keyName.FindStringSubmatch(c.Key)
	if parts == nil {
		return nil, errors.New("awskms.New: want the key's ARN, as arn:aws:kms:REGION:ACCOUNT:key/ID")
	}
	if c.Getenv == nil {
		c.Getenv = os.Getenv
	}
	if c.Timeout == 0 {
		c.Timeout = 5 * time.Second
	}
	w := &Wrapper{key: c.Key, region: parts[2], credentials: c.Credentials, now: time.Now, http: &http.Client{
		Timeout:       c.Timeout,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
	var err error
	if w.endpoint, err = endpoint(c.Endpoint, "kms", w.region, parts[1]); err != nil {
		return nil, fmt.Errorf("awskms.New: %w", err)
	}
	if w.credentials == nil {
		if w.credentials, err = w.machine(c.Getenv, parts[1]); err != nil {
			return nil, fmt.Errorf("awskms.New: %w", err)
		}
	}
	return w, nil
}

// endpoint is where a service of a region answers, unless an address is given.
func endpoint(given, service, region, partition string) (string, error) {
	if given == "" {
		suffix := "amazonaws.com"
		if partition == "aws-cn" {
			suffix += ".cn"
		}
		return "https://" + service + "." + region + "." + suffix, nil
	}
	at, err := url.Parse(given)
	if err != nil || at.Host == "" || at.User != nil || at.RawQuery != "" || at.Scheme != "https" && !(at.Scheme == "http" && loopback(at.Hostname())) {
		return "", errors.New("an address must be https://host, or http:// of this machine: keys travel there")
	}
	return strings.TrimRight(given, "/"), nil
}

func loopback(host string) bool {
	return slices.Contains([]string{"localhost", "127.0.0.1", "::1"}, host)
}

// KeyID names the key in what it wraps.
func (w *Wrapper) KeyID() string { return "awskms/" + w.key }

// place is the encryption context: the service authenticates it with the ciphertext, and writes it into its trail of events.
func place(b keyring.Binding, version uint32) map[string]string {
	return map[string]string{"avouch:tenant": b.Tenant.String(), "avouch:item": b.Item, "avouch:version": strconv.FormatUint(uint64(version), 10)}
}

const algorithm = "SYMMETRIC_DEFAULT"

// errOtherKey is an answer that is not about the key which was named. The service names the one that it used by its ARN, whatever it was
// asked with; we ask with the ARN, so the two are the same text, for keys of several regions too, each of which has an ARN there.
var errOtherKey = errors.New("the key management's answer is of another key")

// Wrap encrypts a key under the newest version.
func (w *Wrapper) Wrap(ctx context.Context, key secret.Bytes, b keyring.Binding) (keyring.Wrapped, error) {
	version, err := w.newest(ctx)
	if err != nil {
		return keyring.Wrapped{}, fmt.Errorf("awskms.Wrap: %w", err)
	}
	var out struct {
		KeyID          string `json:"KeyId"`
		CiphertextBlob []byte
	}
	in := map[string]any{"KeyId": w.key, "Plaintext": key.Expose(), "EncryptionContext": place(b, version), "EncryptionAlgorithm": algorithm}
	if err := w.ask(ctx, "Encrypt", in, &out); err != nil {
		return keyring.Wrapped{}, fmt.Errorf("awskms.Wrap: %w", err)
	}
	if out.KeyID != w.key {
		return keyring.Wrapped{}, fmt.Errorf("awskms.Wrap: %w", errOtherKey)
	}
	return keyring.Wrapped{KeyID: w.KeyID(), KeyVersion: version, Blob: out.CiphertextBlob}, nil
}

// Unwrap decrypts what Wrap made. The ciphertext says by itself which material made it.
func (w *Wrapper) Unwrap(ctx context.Context, k keyring.Wrapped, b keyring.Binding) (secret.Bytes, error) {
	if k.KeyID != w.KeyID() {
		return secret.Bytes{}, fmt.Errorf("awskms.Unwrap: wrapped under %q, not %q: %w", k.KeyID, w.KeyID(), keyring.ErrSealed)
	}
	var out struct {
		KeyID     string `json:"KeyId"`
		Plaintext []byte
	}
	in := map[string]any{"KeyId": w.key, "CiphertextBlob": k.Blob, "EncryptionContext": place(b, k.KeyVersion), "EncryptionAlgorithm": algorithm}
	if err := w.ask(ctx, "Decrypt", in, &out); err != nil {
		return secret.Bytes{}, fmt.Errorf("awskms.Unwrap: %w", err)
	}
	if out.KeyID != w.key {
		clear(out.Plaintext)
		return secret.Bytes{}, fmt.Errorf("awskms.Unwrap: %w", errOtherKey)
	}
	return secret.Own(out.Plaintext), nil
}

// Describe asks the service for its key and for the rotations of it. The versions are 1 and one more for each rotation: the service
// numbers none, and opens what any of them made as long as the key is there.
func (w *Wrapper) Describe(ctx context.Context) (keyring.Description, error) {
	var out struct {
		KeyMetadata struct {
			KeyState, KeyUsage, KeySpec string
			CreationDate                float64
		}
	}
	if err := w.ask(ctx, "DescribeKey", map[string]any{"KeyId": w.key}, &out); err != nil {
		return keyring.Description{}, fmt.Errorf("awskms.Describe: %w", err)
	}
	k := &out.KeyMetadata
	if k.KeyState != "Enabled" || k.KeyUsage != "ENCRYPT_DECRYPT" || k.KeySpec != algorithm {
		return keyring.Description{}, fmt.Errorf("awskms.Describe: %w: the key must be an enabled %s for ENCRYPT_DECRYPT; it is a %.40q for %.40q, and %.40q",
			keyring.ErrRefused, algorithm, k.KeySpec, k.KeyUsage, k.KeyState)
	}
	rotations, last, err := w.rotations(ctx)
	if err != nil {
		return keyring.Description{}, fmt.Errorf("awskms.Describe: %w", err)
	}
	d := keyring.Description{Kind: "awskms", KeyID: w.KeyID(), Version: rotations + 1, Since: moment(max(last, k.CreationDate))}
	for v := range d.Version {
		d.Versions = append(d.Versions, v+1)
	}
	return d, nil
}

func moment(seconds float64) time.Time { return time.UnixMilli(int64(seconds * 1000)) }

// believed is how long a count of rotations is: a wrap that is said to be of the version before is wrapped anew once more, by the next
// Rewrap, and opens all the same.
const believed = time.Minute

func (w *Wrapper) newest(ctx context.Context) (uint32, error) {
	w.mu.Lock()
	version, checked := w.version, w.checked
	w.mu.Unlock()
	if version != 0 && w.now().Sub(checked) < believed {
		return version, nil
	}
	rotations, _, err := w.rotations(ctx)
	return rotations + 1, err
}

const mostRotations = 10_000

// rotations counts those that the service has completed, and says when the last one was.
func (w *Wrapper) rotations(ctx context.Context) (n uint32, last float64, err error) {
	checked := w.now()
	in := map[string]any{"KeyId": w.key, "Limit": 1000}
	for {
		var out struct {
			Rotations  []struct{ RotationDate float64 }
			NextMarker string
			Truncated  bool
		}
		if err := w.ask(ctx, "ListKeyRotations", in, &out); err != nil {
			return 0, 0, err
		}
		for _, r := range out.Rotations {
			n, last = n+1, max(last, r.RotationDate)
		}
		if !out.Truncated || out.NextMarker == "" || n > mostRotations {
			break
		}
		in["Marker"] = out.NextMarker
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.version, w.checked = n+1, checked
	return n, last, nil
}
