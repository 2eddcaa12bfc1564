package awskms

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"

	"github.com/avouch-dev/avouch/keyring"
)

const mostAnswer = 1 << 20

// errExpired is a refusal of credentials that were good when they were had.
var errExpired = fmt.Errorf("%w: the credentials have ended", keyring.ErrRefused)

// What is to be told apart of refusals: that there is no such key, and that it is in a state in which that cannot be done.
var (
	errMissing = fmt.Errorf("%w: there is no such key", keyring.ErrRefused)
	errState   = fmt.Errorf("%w: the state of the key", keyring.ErrRefused)
)

// ask makes one request, and once more where its credentials ended before their time.
func (w *Wrapper) ask(ctx context.Context, operation string, in, out any) error {
	body, err := json.Marshal(in)
	if err != nil {
		return err
	}
	defer clear(body)
	err = w.send(ctx, operation, body, out)
	if cache, ok := w.credentials.(*aws.CredentialsCache); ok && errors.Is(err, errExpired) {
		cache.Invalidate()
		err = w.send(ctx, operation, body, out)
	}
	return err
}

// send makes one request. Its errors hold nothing of what was sent or answered but the name of the service's error.
func (w *Wrapper) send(ctx context.Context, operation string, body []byte, out any) error {
	c, err := w.credentials.Retrieve(ctx)
	if err != nil {
		return unable(ctx, err)
	}
	q, err := http.NewRequestWithContext(ctx, http.MethodPost, w.endpoint+"/", bytes.NewReader(body))
	if err != nil {
		return err
	}
	q.Header.Set("Content-Type", "application/x-amz-json-1.1")
	q.Header.Set("X-Amz-Target", "TrentService."+operation)
	if err := sign(ctx, q, c, body, "kms", w.region, time.Now()); err != nil {
		return errors.New("the request cannot be signed")
	}
	status, answer, err := exchange(w.http, q)
	if err != nil {
		return err
	}
	defer clear(answer)
	if status/100 != 2 {
		return judge(status, operation, answer)
	}
	if out == nil {
		return nil
	}
	if err := json.Unmarshal(answer, out); err != nil {
		return errors.New("the key management's answer is another than is documented")
	}
	return nil
}

func sign(ctx context.Context, q *http.Request, c aws.Credentials, body []byte, service, region string, at time.Time) error {
	sum := sha256.Sum256(body)
	return v4.NewSigner().SignHTTP(ctx, c, q, hex.EncodeToString(sum[:]), service, region, at)
}

func exchange(c *http.Client, q *http.Request) (status int, answer []byte, err error) {
	resp, err := c.Do(q)
	if err != nil {
		return 0, nil, fmt.Errorf("%w: %w", keyring.ErrSilent, err)
	}
	defer resp.Body.Close()
	answer, err = io.ReadAll(io.LimitReader(resp.Body, mostAnswer))
	if err != nil {
		clear(answer)
		return 0, nil, fmt.Errorf("%w: %w", keyring.ErrSilent, err)
	}
	return resp.StatusCode, answer, nil
}

// nameOnly is what the name of an error can be, so that nothing else of an answer comes into an error.
var nameOnly = regexp.MustCompile(`^[A-Za-z]{1,60}$`)

// judge says what an error of the service means. A throttle is a status 400 as a refusal is: the names tell them apart.
func judge(status int, operation string, answer []byte) error {
	var e struct {
		Type string `json:"__type"`
	}
	if err := json.Unmarshal(answer, &e); err != nil {
		e.Type = ""
	}
	name := e.Type[strings.LastIndexByte(e.Type, '#')+1:]
	if !nameOnly.MatchString(name) {
		name = "an error without a name"
	}
	switch name {
	case "InvalidCiphertextException", "IncorrectKeyException":
		if operation == "Decrypt" {
			return keyring.ErrSealed
		}
	case "NotFoundException":
		return fmt.Errorf("%w: status %d, %s", errMissing, status, name)
	case "KMSInvalidStateException":
		return fmt.Errorf("%w: status %d, %s", errState, status, name)
	case "ExpiredTokenException", "ExpiredToken":
		return errExpired
	case "ThrottlingException", "Throttling", "RequestLimitExceeded", "TooManyRequestsException", "KMSInternalException", "DependencyTimeoutException", "KeyUnavailableException",
		"ServiceUnavailableException", "InternalFailure":
		return fmt.Errorf("%w: status %d, %s", keyring.ErrSilent, status, name)
	}
	if status/100 == 5 || status == http.StatusTooManyRequests {
		return fmt.Errorf("%w: status %d, %s", keyring.ErrSilent, status, name)
	}
	return fmt.Errorf("%w: status %d, %s", keyring.ErrRefused, status, name)
}
