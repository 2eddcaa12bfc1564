//go:build pkcs11

package pkcs11

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/miekg/pkcs11"

	"github.com/avouch-dev/avouch/internal/secret"
	"github.com/avouch-dev/avouch/keyring"
)

// sessions is how many operations run at once: a session does one at a time.
const sessions = 8

// token is a token that is there, or was.
type token struct {
	ctx     *pkcs11.Ctx
	label   string
	pin     secret.String
	timeout time.Duration
	free    chan pkcs11.SessionHandle // 0 stands for one that is not open

	mu      sync.Mutex
	refused error // what the token said of the PIN, for good
}

func openToken(c Config) (*token, error) {
	t := &token{ctx: pkcs11.New(c.Module), label: c.Token, pin: c.PIN, timeout: c.Timeout, free: make(chan pkcs11.SessionHandle, sessions)}
	if t.ctx == nil {
		return nil, fmt.Errorf("the module %s cannot be loaded", c.Module)
	}
	// Another wrapper of this process may have begun with the module: it is never ended, since that would end the other's sessions too.
	if err := t.ctx.Initialize(); err != nil && !errors.Is(err, pkcs11.Error(pkcs11.CKR_CRYPTOKI_ALREADY_INITIALIZED)) {
		return nil, judged(err)
	}
	if t.timeout == 0 {
		t.timeout = 5 * time.Second
	}
	for range sessions {
		t.free <- 0
	}
	if _, err := t.slot(); err != nil {
		return nil, err
	}
	return t, nil
}

// slot is where the token is.
func (t *token) slot() (uint, error) {
	slots, err := t.ctx.GetSlotList(true)
	if err != nil {
		return 0, judged(err)
	}
	for _, s := range slots {
		if info, err := t.ctx.GetTokenInfo(s); err == nil && strings.TrimRight(info.Label, " \x00") == t.label {
			return s, nil
		}
	}
	return 0, fmt.Errorf("%w: no slot has a token with this label", keyring.ErrSilent)
}

// open begins a session. A PIN that was refused is not tried again.
func (t *token) open() (pkcs11.SessionHandle, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.refused != nil {
		return 0, t.refused
	}
	slot, err := t.slot()
	if err != nil {
		return 0, err
	}
	s, err := t.ctx.OpenSession(slot, pkcs11.CKF_SERIAL_SESSION)
	if err != nil {
		return 0, judged(err)
	}
	err = t.ctx.Login(s, pkcs11.CKU_USER, t.pin.Expose())
	if err == nil || errors.Is(err, pkcs11.Error(pkcs11.CKR_USER_ALREADY_LOGGED_IN)) {
		return s, nil
	}
	_ = t.ctx.CloseSession(s)
	for _, code := range []uint{pkcs11.CKR_PIN_INCORRECT, pkcs11.CKR_PIN_LOCKED, pkcs11.CKR_PIN_EXPIRED, pkcs11.CKR_PIN_LEN_RANGE, pkcs11.CKR_PIN_INVALID} {
		if errors.Is(err, pkcs11.Error(code)) {
			t.refused = fmt.Errorf("%w: the PIN, and it is not tried again before a restart", judged(err))
			return 0, t.refused
		}
	}
	return 0, judged(err)
}

// during does something in a session of its own. A call into the module cannot be ended: who waited too long leaves it to itself, and its
// session comes back when it does.
func during[T any](ctx context.Context, t *token, do func(session) (T, error)) (T, error) {
	type outcome struct {
		value T
		err   error
	}
	var none T
	ctx, cancel := context.WithTimeout(ctx, t.timeout)
	defer cancel()
	if err := ctx.Err(); err != nil {
		return none, fmt.Errorf("%w: %w", keyring.ErrSilent, err)
	}
	var s pkcs11.SessionHandle
	select {
	case s = <-t.free:
	case <-ctx.Done():
		return none, fmt.Errorf("%w: %w", keyring.ErrSilent, ctx.Err())
	}
	done := make(chan outcome, 1)
	go func() {
		var o outcome
		defer func() { t.free <- s }()
		if s == 0 {
			if s, o.err = t.open(); o.err != nil {
				done <- o
				return
			}
		}
		o.value, o.err = do(session{t.ctx, s})
		if code := pkcs11.Error(0); errors.As(o.err, &code) {
			_ = t.ctx.CloseSession(s) // it may be the session that is broken
			s = 0
			o.err = judged(o.err)
		}
		done <- o
	}()
	select {
	case o := <-done:
		return o.value, o.err
	case <-ctx.Done():
		return none, fmt.Errorf("%w: %w", keyring.ErrSilent, ctx.Err())
	}
}

// vague reports whether a code says nothing of what was asked, and may pass.
func vague(code pkcs11.Error) bool {
	switch uint(code) {
	case pkcs11.CKR_GENERAL_ERROR, pkcs11.CKR_FUNCTION_FAILED, pkcs11.CKR_HOST_MEMORY, pkcs11.CKR_DEVICE_ERROR, pkcs11.CKR_DEVICE_MEMORY, pkcs11.CKR_DEVICE_REMOVED,
		pkcs11.CKR_TOKEN_NOT_PRESENT, pkcs11.CKR_SESSION_HANDLE_INVALID, pkcs11.CKR_SESSION_CLOSED, pkcs11.CKR_SESSION_COUNT, pkcs11.CKR_USER_NOT_LOGGED_IN,
		pkcs11.CKR_SLOT_ID_INVALID, pkcs11.CKR_KEY_HANDLE_INVALID, pkcs11.CKR_OBJECT_HANDLE_INVALID, pkcs11.CKR_CRYPTOKI_NOT_INITIALIZED, pkcs11.CKR_FUNCTION_CANCELED:
		return true
	}
	return false
}

// judged says what a code of the module means.
func judged(err error) error {
	var code pkcs11.Error
	if !errors.As(err, &code) {
		return err
	}
	if vague(code) {
		return fmt.Errorf("%w: %w", keyring.ErrSilent, err)
	}
	return fmt.Errorf("%w: %w", keyring.ErrRefused, err)
}
