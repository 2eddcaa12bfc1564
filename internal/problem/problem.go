// Package problem is the closed list of ways in which a request can fail, and how each looks on the wire.
//
// Every room returns errors made here; internal/web turns them into RFC 9457 problem documents, in one place. An error
// of any other kind is Internal: its text goes to the log and never to the caller.
package problem

import (
	"errors"
	"fmt"
	"net/http"
	"time"
)

// Kind is a way of failing. The list is closed: clients switch on it.
type Kind string

// The kinds. Each has a page at /problems/{kind}, which the `type` of a problem document names.
const (
	Invalid         Kind = "invalid"                // 400: the request cannot be understood or breaks a rule of its own
	Unauthenticated Kind = "unauthenticated"        // 401: no credential, or one that proves nothing
	Denied          Kind = "denied"                 // 403: known, and not allowed
	TenantKey       Kind = "tenant-key-unavailable" // 403: an organisation's own key management does not let its data be opened
	Missing         Kind = "missing"                // 404: no such thing in the caller's own organisation
	Conflict        Kind = "conflict"               // 409: it exists already, or has changed since it was read
	TooMany         Kind = "too-many"               // 429: a limit or quota is spent
	Unavailable     Kind = "unavailable"            // 503: cannot be decided or recorded now; nothing was done, unless Error.Uncertain
	Internal        Kind = "internal"               // 500: our fault
)

// Error is a failure of a known kind. Detail is a sentence for the caller: it must hold no secret and no internal detail.
type Error struct {
	Kind   Kind
	Status int    // an HTTP status more exact than the kind's own (405, 413, 415, 412, 428); 0 means the kind's
	Detail string // what went wrong, and how to put it right
	Fields []Field
	// RetryAfter says when trying again may help; zero means unsaid.
	RetryAfter time.Duration
	// Uncertain says that what was asked may have been done, or may yet be. Without it a failure of any kind but Internal
	// has changed nothing and will not.
	Uncertain bool
	// Busy says that more want this at once than may: nothing is wrong, so it is not logged as a failure, which a crowd would
	// drown the real ones with.
	Busy  bool
	cause error
}

// Field is one part of the request that is wrong.
type Field struct {
	Location string `json:"location" doc:"Where, such as body.name or query.limit"`
	Message  string `json:"message" doc:"What is wrong with it"`
}

// Error is the detail, with the cause for the log.
func (e *Error) Error() string {
	if e.cause != nil {
		return fmt.Sprintf("%s: %s: %v", e.Kind, e.Detail, e.cause)
	}
	return fmt.Sprintf("%s: %s", e.Kind, e.Detail)
}

// Unwrap is the cause, for the log; it never reaches the caller.
func (e *Error) Unwrap() error { return e.cause }

// New makes an error of a kind with a detail for the caller.
func New(k Kind, format string, args ...any) *Error {
	return &Error{Kind: k, Detail: fmt.Sprintf(format, args...)}
}

// Because adds the internal cause, which is logged and never shown.
func (e *Error) Because(err error) *Error {
	e.cause = err
	return e
}

// Of finds the failure in err's chain. Anything unknown is Internal, with a detail that says nothing. Of(nil) is nil.
func Of(err error) *Error {
	if err == nil {
		return nil
	}
	var e *Error
	if !errors.As(err, &e) {
		e = New(Internal, "Something went wrong on our side. Quote the request id when you ask about it.").Because(err)
	}
	if e.Kind != TenantKey && errors.Is(err, errTenantKey) {
		return tenantKeyIn(err)
	}
	return e
}

// errTenantKey stands for every error of the kind TenantKey. Whoever words a failure anew that came of it ("cannot be read now, try
// again") knows less of its cause, and would send its reader looking in the wrong place.
var errTenantKey = errors.New("tenant key")

// tenantKeyIn finds the failure of that kind, in a tree of any form.
func tenantKeyIn(err error) *Error {
	if e, ok := err.(*Error); ok && e.Kind == TenantKey {
		return e
	}
	var all []error
	switch u := err.(type) {
	case interface{ Unwrap() error }:
		all = []error{u.Unwrap()}
	case interface{ Unwrap() []error }:
		all = u.Unwrap()
	}
	for _, inner := range all {
		if inner != nil {
			if e := tenantKeyIn(inner); e != nil {
				return e
			}
		}
	}
	return nil
}

// Is reports whether err is a failure of kind k.
func Is(err error, k Kind) bool { e := Of(err); return e != nil && e.Kind == k }

// errUncertain stands for every error that is Uncertain, so that errors.Is finds it in a tree of any form.
var errUncertain = errors.New("outcome unknown")

// Is serves Uncertain, and Of.
func (e *Error) Is(target error) bool {
	return target == errUncertain && e.Uncertain || target == errTenantKey && e.Kind == TenantKey
}

// Uncertain reports whether err, or anything that it came of, leaves open what was done.
func Uncertain(err error) bool { return errors.Is(err, errUncertain) }

// HTTPStatus is the status that the error is answered with.
func (e *Error) HTTPStatus() int {
	if e.Status != 0 {
		return e.Status
	}
	return e.Kind.Status()
}

// Status is the HTTP status of a kind.
func (k Kind) Status() int {
	switch k {
	case Invalid:
		return http.StatusBadRequest
	case Unauthenticated:
		return http.StatusUnauthorized
	case Denied, TenantKey:
		return http.StatusForbidden
	case Missing:
		return http.StatusNotFound
	case Conflict:
		return http.StatusConflict
	case TooMany:
		return http.StatusTooManyRequests
	case Unavailable:
		return http.StatusServiceUnavailable
	}
	return http.StatusInternalServerError
}
