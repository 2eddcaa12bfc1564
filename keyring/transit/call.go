package transit

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"

	"github.com/avouch-dev/avouch/internal/secret"
	"github.com/avouch-dev/avouch/keyring"
)

var (
	// errToken is a refusal that another token may mend.
	errToken = fmt.Errorf("%w: its policy, or the token", keyring.ErrRefused)
	// errMissing is that there is no such key.
	errMissing = fmt.Errorf("%w: status %d", keyring.ErrRefused, http.StatusNotFound)
	// errAnswer is an answer of another form than is documented.
	errAnswer = errors.New("the key management's answer is another than is documented")
)

// asking calls the engine, with a token anew if it refuses the one that there was.
func (w *Wrapper) asking(ctx context.Context, method, path string, in, out any) error {
	ctx, cancel := context.WithTimeout(ctx, w.cfg.Timeout) // the login too, if there is one
	defer cancel()
	for try := range 2 {
		token, err := w.tokens.get(ctx)
		if err != nil {
			return err
		}
		err = w.call(ctx, method, path, token, in, out)
		if try == 0 && errors.Is(err, errToken) && w.tokens.drop(token) {
			continue
		}
		return err
	}
	return errToken
}

const mostAnswer = 1 << 20

// call makes one request. Its errors hold nothing of what was sent or answered.
func (w *Wrapper) call(ctx context.Context, method, path string, token secret.String, in, out any) error {
	var body []byte
	if in != nil {
		var err error
		if body, err = json.Marshal(in); err != nil {
			return err
		}
		defer clear(body)
	}
	q, err := w.request(ctx, method, path, token, body)
	if err != nil {
		return err
	}
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
	if err := judge(resp.StatusCode, answer); err != nil {
		return err
	}
	if out == nil {
		return nil
	}
	return read(answer, out)
}

func (w *Wrapper) request(ctx context.Context, method, path string, token secret.String, body []byte) (*http.Request, error) {
	q, err := http.NewRequestWithContext(ctx, method, w.cfg.Address+"/v1/"+path, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	if !token.IsZero() {
		q.Header.Set("X-Vault-Token", token.Expose())
	}
	if w.cfg.Namespace != "" {
		q.Header.Set("X-Vault-Namespace", w.cfg.Namespace)
	}
	q.Header.Set("X-Vault-Request", "true")
	q.Header.Set("Content-Type", "application/json")
	return q, nil
}

// judge says what the status of an answer means. What does not open is told from what is not to be opened by the texts of the engine.
func judge(status int, answer []byte) error {
	says := func(text string) bool { return bytes.Contains(answer, []byte(text)) }
	switch {
	case status/100 == 2:
		return nil
	case status == http.StatusForbidden || status == http.StatusUnauthorized:
		return errToken
	case status == http.StatusBadRequest && (says("authentication failed") || says("invalid ciphertext")):
		return keyring.ErrSealed
	case status == http.StatusNotFound && !says("handler"): // without an engine there, it is of the route
		return errMissing
	case status/100 == 5 || status == http.StatusTooManyRequests:
		return fmt.Errorf("%w: status %d", keyring.ErrSilent, status)
	}
	return fmt.Errorf("%w: status %d", keyring.ErrRefused, status)
}

// read takes the part of an answer that was asked for.
func read(answer []byte, out any) error {
	var parts struct {
		Data json.RawMessage `json:"data"`
		Auth json.RawMessage `json:"auth"`
	}
	if err := json.Unmarshal(answer, &parts); err != nil {
		return errAnswer
	}
	part := parts.Data
	if len(parts.Auth) > 0 && string(parts.Auth) != "null" {
		part = parts.Auth
	}
	if err := json.Unmarshal(part, out); err != nil {
		return errAnswer
	}
	return nil
}
