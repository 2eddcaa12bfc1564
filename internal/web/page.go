package web

import (
	"encoding/base64"
	"encoding/json"
	"strconv"
	"strings"

	"github.com/avouch-dev/avouch/internal/problem"
)

// Page is the part of a listing's input that says which page. Embed it.
type Page struct {
	Cursor string `query:"cursor" maxLength:"2048" doc:"Where to go on: the next_cursor of the page before. Its content means nothing outside."`
	Limit  int    `query:"limit" minimum:"1" maximum:"200" default:"50" doc:"How many at most"`
}

// Next is the part of a listing's body that leads to the following page. Embed it.
type Next struct {
	NextCursor string `json:"next_cursor,omitempty" doc:"The cursor of the following page; absent on the last one"`
}

// Cut makes a page of rows that were read with a limit of one more than the page's: it drops the one too many, and says
// where the following page starts. position is what After reads back. The page is never nil, which would be null in JSON.
func Cut[T, P any](rows []T, limit int, position func(T) P) ([]T, Next) {
	if rows == nil {
		rows = []T{}
	}
	if len(rows) <= limit || limit < 1 {
		return rows, Next{}
	}
	rows = rows[:limit]
	return rows, Next{NextCursor: cursor(position(rows[limit-1]))}
}

// From is the continuation of a page that ended at a position.
func From[P any](position P) Next { return Next{NextCursor: cursor(position)} }

func cursor(position any) string {
	b, err := json.Marshal(position)
	if err != nil {
		panic("web.Cut: a position must be a plain value: " + err.Error())
	}
	return base64.RawURLEncoding.EncodeToString(b)
}

// After is the position after which the page starts, and whether there is one: the first page has none. A cursor that
// was not made by Cut for the same type is an Invalid problem. A cursor is no secret and no permission: whoever forges
// one sees only what they may see anyway.
func After[P any](p Page) (position P, ok bool, err error) {
	if p.Cursor == "" {
		return position, false, nil
	}
	bad := fieldProblems([]string{"cursor"}, "query.", "is not a cursor of this listing")
	b, e := base64.RawURLEncoding.Strict().DecodeString(p.Cursor)
	if e != nil || checkJSON(b, nil, nil) != nil {
		return position, false, bad
	}
	var read P
	if err := decodeInto(b, &read); err != nil || cursor(read) != p.Cursor {
		return position, false, bad
	}
	return read, true, nil
}

// ETag is the entity tag of a version, for an output field `header:"ETag"`.
func ETag(version int64) string { return `"` + strconv.FormatInt(version, 10) + `"` }

// IfMatch is the part of an update's input that says which version it was made from. Embed it.
type IfMatch struct {
	IfMatch string `header:"If-Match" maxLength:"256" doc:"The ETag of the version that the change was made from: if it has changed since, nothing is done (412)"`
}

// CheckMatch refuses (412) if ifMatch is there and does not name the version; version 0 is that of what is not there, which no
// tag names, not even * (RFC 9110, section 13.1.1). Weak tags never match. Without the header the update is made from whatever
// there is.
func CheckMatch(ifMatch string, version int64) error {
	if ifMatch == "" {
		return nil
	}
	for tag := range strings.SplitSeq(ifMatch, ",") {
		if tag = strings.TrimSpace(tag); version > 0 && (tag == "*" || tag == ETag(version)) {
			return nil
		}
	}
	p := problem.New(problem.Conflict, "It has changed since it was read: it is at %s now. Read it again.", ETag(version))
	if version == 0 {
		p = problem.New(problem.Conflict, "There is none. Leave If-Match out to make it.")
	}
	p.Status = 412
	return p
}

// MustMatch is CheckMatch for updates that are too dangerous without the header: its absence is refused (428).
func MustMatch(ifMatch string, version int64) error {
	if ifMatch == "" {
		return exactly(428, "Send If-Match with the ETag of the version that you have read.")
	}
	return CheckMatch(ifMatch, version)
}
