package policy

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/riverqueue/river"

	"github.com/avouch-dev/avouch/audit"
	"github.com/avouch-dev/avouch/internal/problem"
	"github.com/avouch-dev/avouch/internal/secret"
	"github.com/avouch-dev/avouch/tenantdb"
)

// The external approval system is asked, and answers, by messages as Standard Webhooks has them (standardwebhooks.com): an id,
// a time in seconds, and HMAC-SHA-256 over id, time and body with a secret that both have.
const (
	hookIDHeader        = "Webhook-Id"
	hookTimeHeader      = "Webhook-Timestamp"
	hookSignatureHeader = "Webhook-Signature"
	hookSecretPrefix    = "whsec_"
	hookSecretSize      = 32
	hookItem            = "glass-hook"
	hookSkew            = 5 * time.Minute
	maxSignatures       = 8 // in one header: the other side may be replacing its secret
)

// hookSignature is the signature of one message.
func hookSignature(key secret.Bytes, id string, at int64, body []byte) string {
	m := hmac.New(sha256.New, key.Expose())
	fmt.Fprintf(m, "%s.%d.", id, at)
	m.Write(body)
	return "v1," + base64.StdEncoding.EncodeToString(m.Sum(nil))
}

// checkHook reports whether a message was signed with the key, lately.
func checkHook(key secret.Bytes, h http.Header, body []byte, now time.Time) bool {
	id, stamp := h.Get(hookIDHeader), h.Get(hookTimeHeader)
	at, err := strconv.ParseInt(stamp, 10, 64)
	if err != nil || strconv.FormatInt(at, 10) != stamp || id == "" || len(id) > 255 || strings.Contains(id, ".") {
		return false
	}
	if age := now.Unix() - at; age > int64(hookSkew/time.Second) || age < -int64(hookSkew/time.Second) {
		return false
	}
	want, good := []byte(hookSignature(key, id, at, body)), 0
	for i, given := range strings.Fields(h.Get(hookSignatureHeader)) {
		if i < maxSignatures {
			good |= subtle.ConstantTimeCompare(want, []byte(given))
		}
	}
	return good == 1
}

// SetHook makes a new secret for the external approval system, shown once: by an owner, since whoever has it can approve. The
// old one counts no more.
func (g *Glass) SetHook(ctx context.Context, c tenantdb.Caller) (secret.String, error) {
	p, err := holder(c, tenantdb.Everything)
	if err == nil {
		err = p.Fresh(g.now())
	}
	if err != nil {
		return secret.String{}, err
	}
	key := make([]byte, hookSecretSize)
	rand.Read(key) // never fails
	at := g.now()
	sealed, err := g.cfg.Ring.Seal(ctx, c.Tenant(), hookItem, "secret", uint64(at.UnixMicro()), key)
	if err != nil {
		return secret.String{}, wrapped("SetHook", err)
	}
	err = g.cfg.DB.Change(ctx, c, func(tx *tenantdb.Tx) (audit.Event, error) {
		if err := g.cfg.Rules.StillHolds(ctx, &tx.ReadTx, tenantdb.Everything); err != nil {
			return audit.Event{}, err
		}
		e := audit.Event{Type: "break_glass.hook_set", Target: audit.Target{Kind: "organisation", ID: c.Tenant().String()}}
		return e, upsertHook(ctx, tx, sealed, p.ID, at)
	})
	if err != nil {
		return secret.String{}, wrapped("SetHook", err)
	}
	return secret.Text(hookSecretPrefix + base64.StdEncoding.EncodeToString(key)), nil
}

// hookKey is the secret of the transaction's organisation; zero if there is none.
func (g *Glass) hookKey(ctx context.Context, tx *tenantdb.ReadTx) (secret.Bytes, error) {
	sealed, at, err := readHook(ctx, tx)
	if err != nil || sealed == nil {
		return secret.Bytes{}, err
	}
	key, err := g.cfg.Ring.Open(ctx, tx.Tenant(), hookItem, "secret", uint64(at.UnixMicro()), sealed)
	return secret.Own(key), err
}

// HookJob asks for an external approval system to be asked. It is a plain row, and holds identifiers alone.
type HookJob struct {
	Tenant string `json:"tenant"`
	Use    string `json:"use"`
}

// Kind names the job in the queue.
func (HookJob) Kind() string { return "break_glass.ask" }

// InsertOpts gives it a day of tries: then what it asks for has lapsed.
func (HookJob) InsertOpts() river.InsertOpts { return river.InsertOpts{MaxAttempts: 14} }

// HookWorker asks external approval systems.
type HookWorker struct {
	river.WorkerDefaults[HookJob]
	Glass *Glass
}

// Timeout bounds one try.
func (w *HookWorker) Timeout(*river.Job[HookJob]) time.Duration { return time.Minute }

// Work asks once. Its errors are kept in the job's row: they hold no address and no text.
func (w *HookWorker) Work(ctx context.Context, job *river.Job[HookJob]) error {
	err := w.Glass.askHook(ctx, job.Args)
	if errors.Is(err, errStale) {
		return river.JobCancel(err)
	}
	return err
}

var errStale = errors.New("the use does not wait any more")

// enqueueHook asks for the external system to be asked, if there is one.
func (g *Glass) enqueueHook(ctx context.Context, tx *tenantdb.Tx, rules GlassRules, u *Use) error {
	sealed, _, err := readHook(ctx, &tx.ReadTx)
	if err != nil {
		return err
	}
	if rules.HookURL == "" || sealed == nil {
		return problem.New(problem.Conflict, "Your organisation wants an external system to approve, but has not set up its address and its secret.")
	}
	return tx.Enqueue(ctx, HookJob{tx.Tenant().String(), u.ID.String()})
}

// question is what an external approval system is asked.
type question struct {
	Type string `json:"type"`
	Use  UseID  `json:"use_id"`
	// Person is an identifier: whose it is, the organisation knows.
	Person       tenantdb.PersonID `json:"person_id"`
	Capabilities []string          `json:"capabilities"`
	Minutes      int               `json:"minutes"`
	Reason       string            `json:"reason"`
	Callback     string            `json:"callback_url"`
	Token        string            `json:"token"` // goes back in the answer, which it binds to this use
	AskedAt      time.Time         `json:"asked_at"`
	Until        time.Time         `json:"answer_until"`
}

func (g *Glass) askHook(ctx context.Context, j HookJob) error {
	t, err := tenantdb.ParseTenantID(j.Tenant)
	if err != nil {
		return errStale
	}
	use, err := ParseUseID(j.Use)
	if err != nil {
		return errStale
	}
	var u Use
	var rules GlassRules
	var key secret.Bytes
	err = g.cfg.DB.Read(ctx, tenantdb.System(t, "break-glass"), func(tx *tenantdb.ReadTx) (err error) {
		if u, err = loadUse(ctx, tx, use); err != nil {
			return err
		}
		if rules, err = g.rules(ctx, tx); err != nil {
			return err
		}
		key, err = g.hookKey(ctx, tx)
		return err
	})
	if problem.Is(err, problem.Missing) {
		return errStale
	}
	if err != nil {
		return errors.New("break_glass: what is asked could not be read: " + string(problem.Of(err).Kind))
	}
	defer key.Clear()
	if u.State(g.now()) != Waiting || u.Approval != ByExternal || !u.fits(rules) || rules.HookURL == "" || len(key.Expose()) != hookSecretSize {
		return errStale
	}
	return g.post(ctx, t, &u, rules.HookURL, key)
}

func (g *Glass) post(ctx context.Context, t tenantdb.TenantID, u *Use, url string, key secret.Bytes) error {
	if err := g.read(ctx, t, u); err != nil {
		return errors.New("break_glass: the reason could not be opened")
	}
	token, err := g.token(ctx, t, u.ID)
	if err != nil {
		return errors.New("break_glass: the token could not be made")
	}
	body, err := json.Marshal(question{
		"break_glass.asked", u.ID, u.Person, u.Capabilities, int(u.Life / time.Minute), u.Reason, g.cfg.URL + "/api/v1/break-glass/" + u.ID.String() + "/answer", token, u.AskedAt, u.DueAt,
	})
	if err != nil {
		return errors.New("break_glass: the question could not be written")
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(body))
	if err != nil {
		return river.JobCancel(errors.New("break_glass: the hook's address is none"))
	}
	at := g.now().Unix()
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set(hookIDHeader, u.ID.String()) // the same at every try
	r.Header.Set(hookTimeHeader, strconv.FormatInt(at, 10))
	r.Header.Set(hookSignatureHeader, hookSignature(key, u.ID.String(), at, body))
	answer, err := g.cfg.Client.Do(r)
	if err != nil {
		return errors.New("break_glass: the hook did not answer")
	}
	defer answer.Body.Close()
	_, _ = io.Copy(io.Discard, io.LimitReader(answer.Body, 64<<10)) // what it says means nothing: its answer comes by the callback
	if answer.StatusCode/100 != 2 {
		return fmt.Errorf("break_glass: the hook answered with status %d", answer.StatusCode)
	}
	return nil
}

// token is what the answer about a use must hold: a signature covers a body, and not whose it is.
func (g *Glass) token(ctx context.Context, t tenantdb.TenantID, use UseID) (string, error) {
	return g.cfg.Ring.Pseudonym(ctx, t, "glass-token", use.String())
}

// answered is what an external approval system says.
type answered struct {
	Decision string `json:"decision" enum:"approve,refuse"`
	By       string `json:"by" minLength:"1" maxLength:"200" doc:"Who decided there, for the log"`
	Token    string `json:"token" minLength:"1" maxLength:"64" doc:"The token of the question"`
}

func unsigned() error {
	return problem.New(problem.Unauthenticated, "The signature does not hold for this use, or it is too old.")
}

// hookOf proves an external system by what it signed. Whatever is wrong, it is told the same.
func (g *Glass) hookOf(ctx context.Context, use UseID, h http.Header, body []byte) (tenantdb.TenantID, error) {
	t, err := tenantOf(ctx, g.cfg.DB, use)
	if err != nil || t.IsZero() {
		if err == nil {
			err = unsigned()
		}
		return t, err
	}
	err = g.cfg.DB.Read(ctx, tenantdb.System(t, "break-glass"), func(tx *tenantdb.ReadTx) error {
		key, err := g.hookKey(ctx, tx)
		if err != nil {
			return err
		}
		defer key.Clear()
		if len(key.Expose()) != hookSecretSize || !checkHook(key, h, body, g.now()) {
			return unsigned()
		}
		return nil
	})
	return t, err
}

// answer heeds what an external approval system, which has been proved, says of a use: once.
func (g *Glass) answer(ctx context.Context, by tenantdb.Caller, use UseID, message string, a answered) (u Use, err error) {
	token, err := g.token(ctx, by.Tenant(), use)
	if err != nil {
		return u, wrapped("answer", err)
	}
	if subtle.ConstantTimeCompare([]byte(token), []byte(a.Token)) != 1 {
		return u, unsigned()
	}
	err = g.cfg.Ring.Prepare(ctx, by.Tenant(), audit.SubjectID{})
	if err == nil {
		err = g.cfg.DB.Change(ctx, by, func(tx *tenantdb.Tx) (audit.Event, error) {
			first, err := spend(ctx, tx, "glass-answer", sha256.Sum256([]byte(message)), g.now().Add(3*hookSkew))
			if err != nil {
				return audit.Event{}, err
			}
			if !first {
				return audit.Event{}, problem.New(problem.Conflict, "A message of this id was heeded already.")
			}
			if u, err = g.waiting(ctx, tx, use, tenantdb.PersonID{}); err != nil {
				return audit.Event{}, err
			}
			return g.heed(ctx, tx, &u, a)
		})
	}
	return u, wrapped("answer", err)
}

func (g *Glass) heed(ctx context.Context, tx *tenantdb.Tx, u *Use, a answered) (e audit.Event, err error) {
	if u.Approval != ByExternal {
		return e, problem.New(problem.Conflict, "It is not for an external system to decide: its approval is %s.", u.Approval)
	}
	u.DecidedBy = ByExternal
	switch a.Decision {
	case "approve":
		if err := g.mayOpen(ctx, tx, u); err != nil {
			return e, err
		}
		e, err = g.open(ctx, tx, u)
	case "refuse":
		e, err = g.refuse(ctx, tx, u)
	default:
		return e, field("decision", "is neither approve nor refuse")
	}
	// About who decided there, and not about the person whose use it is.
	e.Subject, e.Private = audit.SubjectID{}, []audit.Field{{Name: "by", Value: a.By}}
	return e, err
}
