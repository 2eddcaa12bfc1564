package problem

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"regexp"
	"testing"
)

// TestKindsIsTheWholeList reads the constants from the source, so that a kind added to one list only is found.
func TestKindsIsTheWholeList(t *testing.T) {
	t.Parallel()
	src, err := os.ReadFile("problem.go")
	if err != nil {
		t.Fatal(err)
	}
	listed := map[Kind]bool{}
	for _, k := range Kinds() {
		listed[k] = true
	}
	found := regexp.MustCompile(`(?m)^\t\w+ +Kind = "([a-z-]+)"`).FindAllSubmatch(src, -1)
	if len(found) != len(listed) || len(found) == 0 {
		t.Errorf("%d constants, %d listed", len(found), len(listed))
	}
	for _, m := range found {
		if !listed[Kind(m[1])] {
			t.Errorf("Kinds lacks %s", m[1])
		}
	}
}

func TestEachKindHasItsOwnPageAndStatus(t *testing.T) {
	t.Parallel()
	titles, statuses := map[string]Kind{}, map[int]Kind{}
	for _, k := range Kinds() {
		p := k.Page()
		if p.Title == "" || p.Means == "" || p.Remedy == "" {
			t.Errorf("%s: an empty part: %+v", k, p)
		}
		if other, taken := titles[p.Title]; taken {
			t.Errorf("%s and %s share a title", k, other)
		}
		// An organisation's own doing is no fault of the server, which a 5xx would be taken for: by balancers that then leave it alone, and by
		// services that let everybody in while they take us to be down.
		if other, taken := statuses[k.Status()]; taken && !(k == TenantKey && other == Denied) {
			t.Errorf("%s and %s share status %d", k, other, k.Status())
		}
		titles[p.Title], statuses[k.Status()] = k, k
		if (k.Status() >= 500) != (k == Internal || k == Unavailable) {
			t.Errorf("%s has status %d", k, k.Status())
		}
	}
	if Kind("nonsense").Status() != http.StatusInternalServerError {
		t.Error("an unknown kind must be our fault, not the caller's")
	}
}

func TestOf(t *testing.T) {
	t.Parallel()
	if Of(nil) != nil {
		t.Error("Of(nil) is not nil")
	}
	deep := fmt.Errorf("vault.Seal: %w", fmt.Errorf("x: %w", New(Missing, "no item %s", "i")))
	if p := Of(deep); p.Kind != Missing || p.Detail != "no item i" || !Is(deep, Missing) {
		t.Errorf("Of(%v) = %+v", deep, p)
	}
	p := Of(fmt.Errorf("read: %w", io.ErrUnexpectedEOF))
	if p.Kind != Internal || p.HTTPStatus() != 500 || !errors.Is(p, io.ErrUnexpectedEOF) {
		t.Errorf("an unknown error became %+v", p)
	}
	if regexp.MustCompile(`EOF|read`).MatchString(p.Detail) {
		t.Errorf("the detail tells the cause: %s", p.Detail)
	}
}

func TestStatusMoreExactThanTheKind(t *testing.T) {
	t.Parallel()
	p := New(Invalid, "no")
	if p.HTTPStatus() != 400 {
		t.Errorf("status %d", p.HTTPStatus())
	}
	if p.Status = 413; p.HTTPStatus() != 413 {
		t.Errorf("status %d", p.HTTPStatus())
	}
}

func TestTheCauseIsForTheLogOnly(t *testing.T) {
	t.Parallel()
	p := New(Unavailable, "later").Because(io.ErrClosedPipe)
	if p.Error() != "unavailable: later: io: read/write on closed pipe" {
		t.Errorf("Error() = %q", p.Error())
	}
	if p.Detail != "later" {
		t.Errorf("Detail = %q", p.Detail)
	}
}

// TestUncertainIsFoundAnywhere: a room that words a failure anew must not hide that its outcome is unknown.
func TestUncertainIsFoundAnywhere(t *testing.T) {
	t.Parallel()
	known := New(Unavailable, "Not done.")
	open := &Error{Kind: Unavailable, Uncertain: true}
	for _, err := range []error{open, fmt.Errorf("x: %w", open), New(Denied, "No.").Because(errors.Join(io.EOF, open)), errors.Join(known, fmt.Errorf("y: %w", open))} {
		if !Uncertain(err) {
			t.Errorf("not found in %v", err)
		}
	}
	for _, err := range []error{nil, io.EOF, known, New(Internal, "x").Because(known)} {
		if Uncertain(err) {
			t.Errorf("found in %v", err)
		}
	}
}

// TestTenantKeyIsFoundAnywhere: a room that words a failure anew must not hide that it came of an organisation's own key management.
func TestTenantKeyIsFoundAnywhere(t *testing.T) {
	t.Parallel()
	closed := New(TenantKey, "Closed.")
	for _, err := range []error{closed, fmt.Errorf("x: %w", closed), New(Unavailable, "Later.").Because(errors.Join(io.EOF, fmt.Errorf("y: %w", closed)))} {
		if p := Of(err); p != closed || !Is(err, TenantKey) {
			t.Errorf("%v is %+v", err, p)
		}
	}
	if p := Of(New(Unavailable, "Later.").Because(io.EOF)); p.Kind != Unavailable {
		t.Errorf("%+v", p)
	}
}
