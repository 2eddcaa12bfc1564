package apikey

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"net/url"
	"strings"

	"github.com/avouch-dev/avouch/internal/secret"
)

// What GitHub's secret scanning sends with an alert: which of its keys signed the body, and the signature.
const (
	GitHubKeyHeader       = "Github-Public-Key-Identifier"
	GitHubSignatureHeader = "Github-Public-Key-Signature"
)

// GitHubKeys are the public keys that GitHub signs alerts with, as its endpoint for them lists them. A key counts as long
// as it is listed, also one that is no longer current: alerts that it signed may still be under way or sent again, and a
// leak that goes unheard is worse than what the thief of an old key could do, which is to have those keys revoked that
// they hold in full. A key that GitHub withdraws leaves the list.
type GitHubKeys struct{ byName map[string]*ecdsa.PublicKey }

// The bounds of what GitHub sends.
const (
	maxGitHubKeys   = 64 << 10 // bytes of the list
	maxGitHubAlerts = 1000
	maxGitHubBody   = 4 << 20
	maxGitHubType   = 128
	maxGitHubURL    = 2048
	maxGitHubSource = 64
	maxSignature    = 128 // base64 of 72 bytes takes 96
)

// Why an alert is not taken to be GitHub's.
var (
	// ErrNoGitHubKeys means that there is no list here at all.
	ErrNoGitHubKeys = errors.New("no list of its keys is configured here (AVOUCH_GITHUB_KEYS_FILE), so no alert can be checked")
	// ErrGitHubKey means that the list has no such key: it may be newer than the list.
	ErrGitHubKey = errors.New("no key of that name is known to be GitHub's")
	// ErrGitHubSignature means that the signature does not fit.
	ErrGitHubSignature = errors.New("the signature is not that of GitHub's key")
)

// ParseGitHubKeys reads the list of keys. Keys of other kinds than P-256 are passed over, as there may be some one day; a
// list with no other keys, or with a name twice, is refused.
func ParseGitHubKeys(list []byte) (GitHubKeys, error) {
	var read struct {
		Keys []struct {
			Name string `json:"key_identifier"`
			PEM  string `json:"key"`
		} `json:"public_keys"`
	}
	if len(list) > maxGitHubKeys {
		return GitHubKeys{}, fmt.Errorf("apikey.ParseGitHubKeys: more than %d bytes", maxGitHubKeys)
	}
	if err := json.Unmarshal(list, &read); err != nil {
		return GitHubKeys{}, fmt.Errorf("apikey.ParseGitHubKeys: %w", err)
	}
	keys := GitHubKeys{map[string]*ecdsa.PublicKey{}}
	seen := map[string]bool{}
	for _, k := range read.Keys {
		if k.Name == "" || seen[k.Name] {
			return GitHubKeys{}, errors.New("apikey.ParseGitHubKeys: a key has no name, or that of another")
		}
		seen[k.Name] = true
		if key := p256(k.PEM); key != nil {
			keys.byName[k.Name] = key
		}
	}
	if len(keys.byName) == 0 {
		return GitHubKeys{}, errors.New("apikey.ParseGitHubKeys: there is no P-256 key in the list")
	}
	return keys, nil
}

// p256 is the public key of a PEM text, nil if it is none on P-256.
func p256(text string) *ecdsa.PublicKey {
	block, _ := pem.Decode([]byte(text))
	if block == nil {
		return nil
	}
	public, err := x509.ParsePKIXPublicKey(block.Bytes)
	key, ok := public.(*ecdsa.PublicKey)
	if err != nil || !ok || key.Curve != elliptic.P256() {
		return nil
	}
	return key
}

// Verify reports whether the body, as it came, was signed by the key of that name. An error is
// ErrNoGitHubKeys, ErrGitHubKey or ErrGitHubSignature.
func (k GitHubKeys) Verify(name, signature string, body []byte) error {
	if len(k.byName) == 0 {
		return ErrNoGitHubKeys
	}
	key := k.byName[name]
	if key == nil {
		return ErrGitHubKey
	}
	if len(signature) > maxSignature {
		return ErrGitHubSignature
	}
	der, err := base64.StdEncoding.DecodeString(signature)
	sum := sha256.Sum256(body)
	if err != nil || !ecdsa.VerifyASN1(key, sum[:], der) {
		return ErrGitHubSignature
	}
	return nil
}

// Alert is a text that GitHub has found and takes for a key.
type Alert struct {
	Token  secret.String
	Type   string // the name that GitHub has for the kind of key
	URL    string // where it was found; empty if that is not known, or is no address to show anybody
	Source string // in what it was found: content, commit, gist_content, ...
}

// parseAlerts reads a body that was verified. Whoever can publish something has a say in where a key is found, so an
// address or source that is unfit is left out: for the sake of the others in the body, and of this one.
func parseAlerts(body []byte) ([]Alert, error) {
	var read []struct{ Token, Type, URL, Source string }
	if len(body) > maxGitHubBody {
		return nil, fmt.Errorf("apikey.parseAlerts: more than %d bytes", maxGitHubBody)
	}
	if err := json.Unmarshal(body, &read); err != nil {
		return nil, errors.New("apikey.parseAlerts: the body is not a list of alerts") // the cause may quote a key
	}
	if len(read) == 0 || len(read) > maxGitHubAlerts {
		return nil, fmt.Errorf("apikey.parseAlerts: %d alerts, not 1 to %d", len(read), maxGitHubAlerts)
	}
	alerts := make([]Alert, len(read))
	for i, a := range read {
		if a.Token == "" || a.Type == "" || len(a.Type) > maxGitHubType {
			return nil, fmt.Errorf("apikey.parseAlerts: alert %d has no token, or no type of at most %d bytes", i+1, maxGitHubType)
		}
		if len(a.Source) > maxGitHubSource || strings.ContainsFunc(a.Source, unseen) {
			a.Source = ""
		}
		alerts[i] = Alert{secret.Text(a.Token), a.Type, showable(a.URL), a.Source}
	}
	return alerts, nil
}

// showable is an address as it may be put before people, empty if there is none: one of the web, in ASCII, so that no letter
// looks like another.
func showable(address string) string {
	u, err := url.Parse(address)
	if err != nil || u.Scheme != "https" || u.Host == "" || u.User != nil {
		return ""
	}
	if s := u.String(); len(s) <= maxGitHubURL && !strings.ContainsFunc(s, unseen) {
		return s
	}
	return ""
}

func unseen(r rune) bool { return r <= ' ' || r > '~' }

// Feedback is what GitHub is answered about an alert. It does not repeat the token.
type Feedback struct {
	TokenHash string `json:"token_hash" doc:"SHA-256 of the token, in hexadecimal"`
	TokenType string `json:"token_type" doc:"The type that the alert gave"`
	Label     string `json:"label" enum:"true_positive,false_positive" doc:"true_positive if it is a key of this installation, whether or not it still works"`
}

// feedback is the answer to the alert, whose token is one of ours or not.
func (a Alert) feedback(ours bool) Feedback {
	sum := sha256.Sum256([]byte(a.Token.Expose()))
	f := Feedback{hex.EncodeToString(sum[:]), a.Type, "false_positive"}
	if ours {
		f.Label = "true_positive"
	}
	return f
}
