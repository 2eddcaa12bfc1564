// Package wrappertest tries a KeyWrapper, of whatever kind, on what every kind promises. Only tests import it.
package wrappertest

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/avouch-dev/avouch/internal/secret"
	"github.com/avouch-dev/avouch/keyring"
	"github.com/avouch-dev/avouch/tenantdb"
)

// Kind is a kind of wrapper with a key of its own, and what can be done to the key from outside. What is nil cannot be done.
type Kind struct {
	Wrapper keyring.Named
	Other   keyring.Named // of another key at the same place
	Name    string        // what Describe calls the kind
	// Rotate makes a newer version of the key.
	Rotate func(t *testing.T)
	// Disable takes the key away so that it could be given back, which Enable does.
	Disable, Enable func(t *testing.T)
	// Answer makes the service, spoken to by HTTP, answer everything with a status; 0 is as it should.
	Answer func(status int)
	// Hang makes the service take requests and answer none, for longer than the wrapper waits; it comes last.
	Hang func(t *testing.T)
	// Secrets are what no error may hold, beside the keys.
	Secrets []string
}

// patience is how long a wrapper may take to find out that nobody answers.
const patience = 10 * time.Second

// try is one wrapper on trial.
type try struct {
	Kind
	t      *testing.T
	key    []byte
	here   keyring.Binding
	errors []error
}

// Run tries a wrapper.
func Run(t *testing.T, k Kind) {
	t.Helper()
	y := &try{Kind: k, t: t, key: []byte("0123456789abcdef0123456789abcdeF"), here: keyring.Binding{Tenant: tenantdb.NewTenantID(), Item: "key/wrap/1"}}
	y.opensWhatItWraps()
	y.isBound()
	y.isWhole()
	y.names()
	y.rotates()
	y.refuses()
	y.isOut()
	y.isSilent()
	y.tellsNothing()
}

func (y *try) wrap() keyring.Wrapped {
	y.t.Helper()
	w, err := y.Wrapper.Wrap(y.t.Context(), secret.Own(bytes.Clone(y.key)), y.here)
	if err != nil {
		y.t.Fatalf("Wrap: %v", err)
	}
	return w
}

func (y *try) opens(what string, w keyring.Wrapped) {
	y.t.Helper()
	got, err := y.Wrapper.Unwrap(y.t.Context(), w, y.here)
	if err != nil || !bytes.Equal(got.Expose(), y.key) {
		y.t.Errorf("%s does not open: %v", what, err)
	}
	got.Clear()
}

// closed holds that something does not open, and that the error is the one of what was altered or moved.
func (y *try) closed(what string, w keyring.Wrapped, b keyring.Binding) {
	y.t.Helper()
	got, err := y.Wrapper.Unwrap(y.t.Context(), w, b)
	if !errors.Is(err, keyring.ErrSealed) || !got.IsZero() {
		y.t.Errorf("%s: %v", what, err)
	}
	y.errors = append(y.errors, err)
}

func (y *try) opensWhatItWraps() {
	one, two := y.wrap(), y.wrap()
	y.opens("what was wrapped", one)
	y.opens("what was wrapped again", two)
	if bytes.Equal(one.Blob, two.Blob) {
		y.t.Error("a key is wrapped twice into the same bytes")
	}
	if one.KeyID != y.Wrapper.KeyID() || one.KeyVersion == 0 || len(one.KeyID) > 255 || bytes.Contains(one.Blob, y.key) {
		y.t.Errorf("wrapped under %q, version %d", one.KeyID, one.KeyVersion)
	}
	long := secret.Own(bytes.Repeat([]byte("RSA!"), 500)) // a private key of 3072 bits takes 1,800 bytes
	w, err := y.Wrapper.Wrap(y.t.Context(), long, y.here)
	if err != nil {
		y.t.Fatalf("a long one: %v", err)
	}
	if got, err := y.Wrapper.Unwrap(y.t.Context(), w, y.here); err != nil || !got.Equal(long) {
		y.t.Errorf("a long one: %v", err)
	}
}

// isOut holds that a service which cannot do it now has refused nothing, and that nobody is sent elsewhere with a key.
func (y *try) isOut() {
	if y.Answer == nil {
		return
	}
	w := y.wrap()
	for _, status := range []int{http.StatusInternalServerError, http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusTooManyRequests, http.StatusTemporaryRedirect} {
		y.Answer(status)
		_, err := y.Wrapper.Unwrap(y.t.Context(), w, y.here)
		if silent := errors.Is(err, keyring.ErrSilent); err == nil || errors.Is(err, keyring.ErrSealed) || !silent && status != http.StatusTemporaryRedirect {
			y.t.Errorf("status %d: %v", status, err)
		}
		y.errors = append(y.errors, err)
	}
	y.Answer(0)
	y.opens("what was wrapped before an outage", w)
}

func (y *try) isBound() {
	w := y.wrap()
	tenant, item := y.here, y.here
	tenant.Tenant, item.Item = tenantdb.NewTenantID(), "key/wrap/2"
	y.closed("for another organisation", w, tenant)
	y.closed("for another item", w, item)
	y.closed("for nothing", w, keyring.Binding{})
	moved := w
	moved.KeyID = y.Other.KeyID()
	y.closed("as another key's", moved, y.here)
	if got, err := y.Other.Unwrap(y.t.Context(), w, y.here); !errors.Is(err, keyring.ErrSealed) || !got.IsZero() {
		y.t.Errorf("by another key: %v", err)
	}
	if got, err := y.Other.Unwrap(y.t.Context(), moved, y.here); err == nil || errors.Is(err, keyring.ErrSilent) || !got.IsZero() {
		y.t.Errorf("by another key, under its name: %v", err)
	}
}

// isWhole flips each byte of what was wrapped, and cuts it.
func (y *try) isWhole() {
	w := y.wrap()
	for i := range w.Blob {
		bad := w
		bad.Blob = bytes.Clone(w.Blob)
		bad.Blob[i] ^= 1
		if got, err := y.Wrapper.Unwrap(y.t.Context(), bad, y.here); err == nil || errors.Is(err, keyring.ErrSilent) || !got.IsZero() {
			y.t.Errorf("with byte %d flipped: %v", i, err)
		}
	}
	for _, n := range []int{1, len(w.Blob) / 2, len(w.Blob) - 1} {
		bad := w
		bad.Blob = w.Blob[:n]
		y.closed(fmt.Sprintf("cut to %d bytes", n), bad, y.here)
	}
}

func (y *try) names() {
	d, err := y.Wrapper.Describe(y.t.Context())
	if err != nil || d.Kind != y.Name || d.KeyID != y.Wrapper.KeyID() || !slices.Contains(d.Versions, d.Version) || !slices.IsSorted(d.Versions) {
		y.t.Errorf("%+v, %v", d, err)
	}
	if w := y.wrap(); w.KeyVersion != d.Version || !d.Opens(keyring.Wrapping{KeyID: w.KeyID, Version: w.KeyVersion}) {
		y.t.Errorf("wraps under version %d, and says %d", w.KeyVersion, d.Version)
	}
}

func (y *try) rotates() {
	if y.Rotate == nil {
		return
	}
	old := y.wrap()
	y.Rotate(y.t)
	anew := y.wrap()
	if anew.KeyVersion <= old.KeyVersion {
		y.t.Errorf("version %d, and after the rotation %d", old.KeyVersion, anew.KeyVersion)
	}
	y.opens("what was wrapped before the rotation", old)
	y.opens("what was wrapped after it", anew)
	d, err := y.Wrapper.Describe(y.t.Context())
	if err != nil || d.Version != anew.KeyVersion || !slices.Contains(d.Versions, old.KeyVersion) {
		y.t.Errorf("%+v, %v", d, err)
	}
}

func (y *try) refuses() {
	if y.Disable == nil {
		return
	}
	w := y.wrap()
	y.Disable(y.t)
	_, wrap := y.Wrapper.Wrap(y.t.Context(), secret.Own(bytes.Clone(y.key)), y.here)
	got, unwrap := y.Wrapper.Unwrap(y.t.Context(), w, y.here)
	for what, err := range map[string]error{"Wrap": wrap, "Unwrap": unwrap} {
		if !errors.Is(err, keyring.ErrRefused) || errors.Is(err, keyring.ErrSilent) || errors.Is(err, keyring.ErrSealed) {
			y.t.Errorf("%s with a key that is disabled: %v", what, err)
		}
		y.errors = append(y.errors, err)
	}
	if !got.IsZero() {
		y.t.Error("a key that is disabled opens")
	}
	y.Enable(y.t)
	y.opens("what was wrapped, with nothing mended but the key", w)
}

func (y *try) isSilent() {
	w := y.wrap()
	over, cancel := context.WithCancel(y.t.Context())
	cancel()
	if y.Hang == nil {
		return
	}
	if _, err := y.Wrapper.Unwrap(over, w, y.here); !errors.Is(err, context.Canceled) {
		y.t.Errorf("for a caller who is gone: %v", err)
	}
	y.Hang(y.t)
	began := time.Now()
	_, wrap := y.Wrapper.Wrap(y.t.Context(), secret.Own(bytes.Clone(y.key)), y.here)
	_, unwrap := y.Wrapper.Unwrap(y.t.Context(), w, y.here)
	_, describe := y.Wrapper.Describe(y.t.Context())
	for what, err := range map[string]error{"Wrap": wrap, "Unwrap": unwrap, "Describe": describe} {
		if !errors.Is(err, keyring.ErrSilent) || errors.Is(err, keyring.ErrRefused) || errors.Is(err, keyring.ErrSealed) {
			y.t.Errorf("%s while nobody answers: %v", what, err)
		}
		y.errors = append(y.errors, err)
	}
	if took := time.Since(began); took > 3*patience {
		y.t.Errorf("it took %s to find that nobody answers", took)
	}
}

// tellsNothing: no error, and no way of printing the wrapper, shows a key or a credential.
func (y *try) tellsNothing() {
	texts := []string{fmt.Sprintf("%v %+v %#v", y.Wrapper, y.Wrapper, y.Wrapper)}
	for _, err := range y.errors {
		texts = append(texts, fmt.Sprintf("%v %+v", err, err))
	}
	for _, s := range append(y.Secrets, string(y.key), hex.EncodeToString(y.key), base64.StdEncoding.EncodeToString(y.key)) {
		for _, text := range texts {
			if strings.Contains(text, s) {
				y.t.Errorf("a secret is in %.200q", text)
			}
		}
	}
}
