package keyring

import (
	"bytes"
	"cmp"
	"context"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/avouch-dev/avouch/internal/secret"
)

const (
	keySize         = 32
	maxPlatformText = 64 << 10
)

// Platform is the platform key, in every version that this process was given. Nothing is encrypted with it directly:
// each use has a key of its own, derived by HKDF-SHA-256.
type Platform struct {
	secret.Hidden
	versions map[uint32]secret.Bytes
	newest   uint32
	follow   *follow
}

// ParsePlatform reads platform keys: one or more entries, divided by commas or line ends, each the base64 of 32 bytes
// (version 1), or version, colon and base64. The highest version wraps; the others only unwrap.
func ParsePlatform(text []byte) (*Platform, error) {
	if len(text) > maxPlatformText {
		return nil, errors.New("keyring.ParsePlatform: too long")
	}
	p := &Platform{versions: map[uint32]secret.Bytes{}, follow: &follow{}}
	for i, entry := range strings.FieldsFunc(string(text), func(r rune) bool { return r == ',' || r == '\n' || r == '\r' }) {
		version, key, err := parsePlatformEntry(strings.TrimSpace(entry))
		if err != nil {
			return nil, fmt.Errorf("keyring.ParsePlatform: entry %d: %w", i+1, err)
		}
		if _, twice := p.versions[version]; twice {
			return nil, fmt.Errorf("keyring.ParsePlatform: version %d is there twice", version)
		}
		p.versions[version] = key
		p.newest = max(p.newest, version)
	}
	if p.newest == 0 {
		return nil, errors.New("keyring.ParsePlatform: no key: want the base64 of 32 random bytes")
	}
	return p, nil
}

// parsePlatformEntry's errors hold nothing of the entry.
func parsePlatformEntry(entry string) (uint32, secret.Bytes, error) {
	version := uint64(1)
	if number, rest, ok := strings.Cut(entry, ":"); ok {
		n, err := strconv.ParseUint(number, 10, 16)
		if err != nil || n == 0 || strconv.FormatUint(n, 10) != number {
			return 0, secret.Bytes{}, errors.New("the version before the colon is not a number from 1 to 65535")
		}
		version, entry = n, rest
	}
	b, err := base64.StdEncoding.Strict().DecodeString(entry)
	if err != nil || len(b) != keySize {
		clear(b)
		return 0, secret.Bytes{}, errors.New("want the base64 (44 characters, padded) of 32 bytes")
	}
	if bytes.Count(b, b[:1]) == keySize {
		return 0, secret.Bytes{}, errors.New("all bytes are equal: that is no key")
	}
	return uint32(version), secret.Own(b), nil
}

// LoadPlatform reads the platform key from the value of AVOUCH_PLATFORM_KEY, or, where that is empty, from a file.
func LoadPlatform(value secret.String, file string) (*Platform, error) {
	if !value.IsZero() {
		p, err := ParsePlatform([]byte(value.Expose()))
		if err != nil {
			return nil, fmt.Errorf("keyring.LoadPlatform: AVOUCH_PLATFORM_KEY: %w", err)
		}
		return p, nil
	}
	text, err := secret.ReadFile(file, maxPlatformText)
	if err != nil {
		return nil, fmt.Errorf("keyring.LoadPlatform: %w", err)
	}
	defer clear(text)
	p, err := ParsePlatform(text)
	if err != nil {
		return nil, fmt.Errorf("keyring.LoadPlatform: %s: %w", file, err)
	}
	return p, nil
}

// CreatePlatformKeyFile makes a file with a new random platform key, mode 0600, for the first start of a development
// installation. A file that exists is left as it is (made is false), also if another process makes it at the same time.
// When it returns, the key survives a power cut.
func CreatePlatformKeyFile(file string) (made bool, err error) {
	dir := filepath.Dir(file)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return false, fmt.Errorf("keyring.CreatePlatformKeyFile: %w", err)
	}
	key := make([]byte, keySize)
	defer clear(key)
	rand.Read(key)
	text := append(base64.StdEncoding.AppendEncode([]byte("1:"), key), '\n')
	defer clear(text)
	if _, err := os.Lstat(file); err == nil {
		return false, syncDir(dir)
	}
	temp, err := writeTemp(dir, ".platform-key-*", text)
	if err != nil {
		return false, fmt.Errorf("keyring.CreatePlatformKeyFile: %w", err)
	}
	defer os.Remove(temp)
	if err := os.Link(temp, file); errors.Is(err, fs.ErrExist) {
		return false, syncDir(dir)
	} else if err != nil {
		return false, fmt.Errorf("keyring.CreatePlatformKeyFile: %w", err)
	}
	return true, errors.Join(syncDir(dir), syncDir(filepath.Dir(dir)))
}

// derive is the key for one use: HKDF-SHA-256 over one version of the platform key.
func (p *Platform) derive(use string, version uint32) (secret.Bytes, error) {
	root, ok := p.versions[version]
	if !ok {
		return secret.Bytes{}, fmt.Errorf("version %d of the platform key was not given to this process", version)
	}
	key, err := hkdf.Key(sha256.New, root.Expose(), nil, "avouch/platform/v1/"+use, keySize)
	if err != nil {
		return secret.Bytes{}, err
	}
	return secret.Own(key), nil
}

// The uses that a Local wrapper is made for. Keys wrapped for one use do not open under another.
const (
	ForKeyStore = "keystore" // organisations' keys, in the key store
	ForSigning  = "signing"  // token signing keys, in the database
)

// Local wraps under a key derived from the platform key in this process's memory: the KeyWrapper of an installation
// without a KMS.
type Local struct {
	secret.Hidden
	keyID    string
	platform *Platform
	aeads    map[uint32]cipher.AEAD
}

// Wrapper derives the wrapper for a use.
func (p *Platform) Wrapper(use string) (*Local, error) {
	l := &Local{keyID: "platform/" + use, platform: p, aeads: map[uint32]cipher.AEAD{}}
	for version := range p.versions {
		key, err := p.derive(use, version)
		if err != nil {
			return nil, fmt.Errorf("keyring.Wrapper: %w", err)
		}
		l.aeads[version], err = newAEAD(key)
		key.Clear()
		if err != nil {
			return nil, fmt.Errorf("keyring.Wrapper: %w", err)
		}
	}
	return l, nil
}

// KeyID names the key in what it wraps.
func (l *Local) KeyID() string { return l.keyID }

// Wrap encrypts a key under the version that wraps now: the newest, unless Follow says otherwise.
func (l *Local) Wrap(_ context.Context, key secret.Bytes, b Binding) (Wrapped, error) {
	version, err := l.platform.current()
	if err != nil {
		return Wrapped{}, fmt.Errorf("keyring.Wrap: %w", err)
	}
	return wrapUnder(l.aeads[version], l.keyID, version, key, b), nil
}

// Unwrap decrypts a key under the version that wrapped it.
func (l *Local) Unwrap(_ context.Context, w Wrapped, b Binding) (secret.Bytes, error) {
	if w.KeyID != l.keyID {
		return secret.Bytes{}, fmt.Errorf("keyring.Unwrap: wrapped under %q, not %q: %w", w.KeyID, l.keyID, ErrSealed)
	}
	a, ok := l.aeads[w.KeyVersion]
	if !ok {
		if _, err := l.platform.current(); err != nil { // a process that is behind cannot know what the version is
			return secret.Bytes{}, fmt.Errorf("keyring.Unwrap: %w", err)
		}
		return secret.Bytes{}, fmt.Errorf("keyring.Unwrap: version %d of the platform key was not given to this process: %w", w.KeyVersion, ErrSealed)
	}
	key, err := unwrapUnder(a, w, b)
	if err != nil {
		return secret.Bytes{}, fmt.Errorf("keyring.Unwrap: %w", err)
	}
	return key, nil
}

// Describe names the derived key and its versions.
func (l *Local) Describe(context.Context) (Description, error) {
	version, err := l.platform.current()
	if err != nil {
		return Description{}, fmt.Errorf("keyring.Describe: %w", err)
	}
	return Description{Kind: "local", KeyID: l.keyID, Version: version, Versions: slices.SortedFunc(maps.Keys(l.aeads), cmp.Compare)}, nil
}
