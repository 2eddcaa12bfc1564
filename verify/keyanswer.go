package verify

import (
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/avouch-dev/avouch/apikey"
	"github.com/avouch-dev/avouch/internal/web"
	"github.com/avouch-dev/avouch/tenantdb"
)

// KeyRequest is what a service asks about a key that was presented to it.
type KeyRequest struct {
	Key     string   `json:"key" doc:"The key, as it was presented." example:"avd_live_3kRlGxdIFxt_0000000000000000000000000000000000000000000a4cDe1"`
	Scopes  []string `json:"scopes,omitempty" nullable:"true" maxItems:"64" doc:"What it is to be good for, all of it; left out, nothing is asked for. Each is a scope or a query. documents:* asks for all beneath. One that is empty is refused. A single one may be sent as a text instead of a list." example:"[\"documents:read AND (region:eu OR region:us)\"]"`
	Cost    *int64   `json:"cost,omitempty" nullable:"true" minimum:"0" maximum:"1000000" doc:"How many uses it takes; 1 if left out. 0 asks without counting: look at remaining then, a spent key is VALID."`
	Address string   `json:"address,omitempty" maxLength:"64" doc:"From where it was presented. Without it, a key that is bound to networks is refused." example:"192.0.2.7"`
}

// UnmarshalJSON reads a request; scopes may be one text instead of a list.
func (q *KeyRequest) UnmarshalJSON(b []byte) error {
	return web.Members(b, func(name string, value []byte) (err error) {
		switch name {
		case "key":
			q.Key, err = web.Text(value)
		case "scopes":
			if value[0] == '"' {
				var one string
				one, err = web.Text(value)
				q.Scopes = []string{one}
				return err
			}
			q.Scopes, err = web.Texts(value)
		case "cost":
			q.Cost, err = web.Integer(value)
		case "address":
			q.Address, err = web.Text(value)
		}
		return err
	})
}

// KeyAnswer is what a service is told about a key.
type KeyAnswer struct {
	Valid      bool           `json:"valid" doc:"Whether the key is good for what was asked. Look at kind too: your organisation's own keys are good for what their capabilities hold."`
	Code       Code           `json:"code" enum:"VALID,NOT_FOUND,REVOKED,DISABLED,EXPIRED,FORBIDDEN_ADDRESS,INSUFFICIENT_SCOPE,RATE_LIMITED,USAGE_EXCEEDED"`
	Reason     string         `json:"reason" doc:"A sentence for a person."`
	KeyID      *string        `json:"key_id" nullable:"true" doc:"Null, like all that follows, if it is no key of yours."`
	Name       *string        `json:"name" nullable:"true"`
	Kind       *apikey.Kind   `json:"kind" nullable:"true" enum:"data,service,owner" doc:"What it is: a data key is one that you gave to somebody. Your organisation's own keys are told of too."`
	Owner      *string        `json:"owner" nullable:"true" doc:"To whom you gave it."`
	Scopes     []string       `json:"scopes" doc:"What it was granted; empty is nothing."`
	Metadata   map[string]any `json:"metadata" nullable:"true"`
	Remaining  *int64         `json:"remaining" nullable:"true" doc:"How many uses are left, after this one if it is VALID. Null is unlimited."`
	RateLimits []RateLeft     `json:"rate_limits" doc:"What is left in the present windows."`
	RetryAt    *time.Time     `json:"retry_at" nullable:"true" doc:"With RATE_LIMITED, when all windows have ended that refuse; null if waiting does not help: the cost is more than a whole window allows, or the uses do not suffice either."`
	ExpiresAt  *time.Time     `json:"expires_at" nullable:"true"`
	RequestID  string         `json:"request_id"`
	Audit      Evidence       `json:"audit"`
}

// RateLeft is a rate limit and what is left of it.
type RateLeft struct {
	Name      string         `json:"name"`
	Of        apikey.MeterOf `json:"of" enum:"key,owner,maker" doc:"Whose limit it is: the key's own, the one that all keys of its owner share, or one of a key that made it."`
	Limit     int64          `json:"limit"`
	Remaining int64          `json:"remaining"`
}

func (f *keyFacts) answer(v keyVerdict, who Asker, done tenantdb.Receipt) *KeyAnswer {
	pos := done.Positions[0]
	a := &KeyAnswer{
		Valid: v.code == Valid, Code: v.code, Reason: v.reason, RequestID: who.Request.String(), Scopes: []string{}, RateLimits: []RateLeft{},
		Audit: Evidence{Log: pos.Log.String(), Seq: int64(pos.Seq), Leaf: hex.EncodeToString(pos.Leaf[:])},
	}
	if f.key == nil {
		return a
	}
	a.KeyID, a.Name, a.Kind, a.Scopes, a.Metadata = &f.key.ID, &f.key.Name, &f.key.Kind, slices.Clone(f.key.Scopes), f.key.Metadata
	if a.Scopes == nil {
		a.Scopes = []string{}
	}
	if f.key.GivenTo != "" {
		a.Owner = &f.key.GivenTo
	}
	if at := f.key.ExpiresAt.UTC(); !at.IsZero() {
		a.ExpiresAt = &at
	}
	f.left(a, done.Left)
	if v.code == RateLimited && !f.spent.Anew.IsZero() {
		at := f.spent.Anew.UTC()
		a.RetryAt = &at
	}
	return a
}

// left fills in what the meters have left. The first spends are the key's, in the order of its meters. What refused is told as
// it was then: its window may have ended since.
func (f *keyFacts) left(a *KeyAnswer, left []int64) {
	for i, m := range f.key.Meters {
		if i >= len(left) {
			return
		}
		n := left[i]
		if f.spent != nil && f.spent.Subject == m.Subject {
			n = f.spent.Left
		}
		switch {
		case n == tenantdb.Unknown:
		case m.Window > 0:
			a.RateLimits = append(a.RateLimits, RateLeft{m.Name, m.Of, m.Limit, n})
		case a.Remaining == nil || n < *a.Remaining:
			a.Remaining = &n
		}
	}
}

// append writes the answer as encoding/json would: TestKeyAnswerIsWrittenAsDescribed.
func (a *KeyAnswer) append(b []byte) ([]byte, error) {
	b = strconv.AppendBool(append(b, `{"valid":`...), a.Valid)
	b = web.AppendText(append(b, `,"code":`...), string(a.Code))
	b = web.AppendText(append(b, `,"reason":`...), a.Reason)
	b = appendTextOrNull(append(b, `,"key_id":`...), a.KeyID)
	b = appendTextOrNull(append(b, `,"name":`...), a.Name)
	b = appendTextOrNull(append(b, `,"kind":`...), a.Kind)
	b = appendTextOrNull(append(b, `,"owner":`...), a.Owner)
	b = appendTexts(append(b, `,"scopes":`...), a.Scopes)
	b = append(b, `,"metadata":`...)
	if a.Metadata == nil {
		b = append(b, "null"...)
	} else {
		own, err := json.Marshal(a.Metadata)
		if err != nil {
			return nil, fmt.Errorf("verify: metadata: %w", err)
		}
		b = append(b, own...)
	}
	b = append(b, `,"remaining":`...)
	if a.Remaining == nil {
		b = append(b, "null"...)
	} else {
		b = strconv.AppendInt(b, *a.Remaining, 10)
	}
	b = append(b, `,"rate_limits":[`...)
	for i := range a.RateLimits {
		if i > 0 {
			b = append(b, ',')
		}
		b = a.RateLimits[i].append(b)
	}
	b = appendTimeOrNull(append(b, `],"retry_at":`...), a.RetryAt)
	b = appendTimeOrNull(append(b, `,"expires_at":`...), a.ExpiresAt)
	b = web.AppendText(append(b, `,"request_id":`...), a.RequestID)
	return append(a.Audit.append(append(b, `,"audit":`...)), '}'), nil
}

func (l *RateLeft) append(b []byte) []byte {
	b = web.AppendText(append(b, `{"name":`...), l.Name)
	b = web.AppendText(append(b, `,"of":`...), string(l.Of))
	b = strconv.AppendInt(append(b, `,"limit":`...), l.Limit, 10)
	b = strconv.AppendInt(append(b, `,"remaining":`...), l.Remaining, 10)
	return append(b, '}')
}

func appendTextOrNull[T ~string](b []byte, s *T) []byte {
	if s == nil {
		return append(b, "null"...)
	}
	return web.AppendText(b, string(*s))
}

func appendTimeOrNull(b []byte, t *time.Time) []byte {
	if t == nil {
		return append(b, "null"...)
	}
	return append(t.AppendFormat(append(b, '"'), time.RFC3339Nano), '"')
}
