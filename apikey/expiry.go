package apikey

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/avouch-dev/avouch/audit"
	"github.com/avouch-dev/avouch/internal/mail"
	"github.com/avouch-dev/avouch/tenantdb"
)

// noticeDays are how many days before a key's end its organisation is told.
var noticeDays = []int{30, 7, 1}

const day = 24 * time.Hour

// The bounds of one pass: keys of one commit, and those that a mail names.
const (
	mostNoticed = 100
	mostNamed   = 20
)

// Notify tells an organisation of its keys that end soon: of each once at 30, 7 and 1 days before, in one mail for all of
// which it is time. The entries, the marks that it was told and the mail's place in the queue are one commit; where there
// are more keys than fit in one, the mail is queued with the first of them and counts all. It may run on any number of
// servers.
func (r *Room) Notify(ctx context.Context, c tenantdb.Caller) (told int, err error) {
	now := r.instant()
	var ids []string
	if err := r.cfg.DB.Read(ctx, c, func(tx *tenantdb.ReadTx) (err error) {
		ids, err = ending(ctx, tx, now, noticeDays)
		return err
	}); err != nil {
		return 0, fmt.Errorf("apikey.Notify: %w", err)
	}
	if len(ids) == 0 {
		return 0, nil
	}
	if err := r.cfg.Ring.Prepare(ctx, c.Tenant(), audit.SubjectID{}); err != nil {
		return 0, fmt.Errorf("apikey.Notify: %w", err)
	}
	for part := range slices.Chunk(ids, mostNoticed) {
		n, err := r.notify(ctx, c, part, now, len(ids)-told, told == 0)
		if err != nil {
			return told, fmt.Errorf("apikey.Notify: %w", err)
		}
		if n == 0 { // another server is at it
			break
		}
		told += n
	}
	return told, nil
}

// notify marks keys as told of, and queues the mail about them and all others, if there is to be one.
func (r *Room) notify(ctx context.Context, c tenantdb.Caller, ids []string, now time.Time, all int, mails bool) (told int, err error) {
	err = r.cfg.DB.ChangeAll(ctx, c, func(tx *tenantdb.Tx) ([]audit.Event, error) {
		var events []audit.Event
		var named []string
		var first time.Time
		rest := all
		for _, id := range ids {
			k, err := load(ctx, &tx.ReadTx, id)
			if err != nil {
				return nil, err
			}
			days := notice(k, now)
			if days == 0 {
				rest-- // another server was faster, or it has been revoked
				continue
			}
			k.Noticed = days
			if err := update(ctx, tx, k); err != nil {
				return nil, err
			}
			if first.IsZero() {
				first = k.ExpiresAt
			}
			if len(named) < mostNamed {
				named = append(named, k.ID)
			}
			events = append(events, audit.Event{
				Type: "key.expiring", Target: audit.Target{Kind: "key", ID: k.ID},
				Public: []audit.Field{{Name: "days", Value: fmt.Sprint(days)}, {Name: "expires_at", Value: stamp(k.ExpiresAt)}},
			})
		}
		if told = len(events); told == 0 || !mails {
			return events, nil
		}
		return events, tx.Enqueue(ctx, mail.Job{Tenant: tx.Tenant().String(), Template: mail.KeyExpiring, IDs: map[string]string{
			"keys": strings.Join(named, " "), "count": fmt.Sprint(rest), "days": fmt.Sprint(daysTo(first, now)),
		}})
	})
	return told, err
}

// daysTo counts days, one that has begun as one.
func daysTo(end, now time.Time) int { return int((end.Sub(now) + day - 1) / day) }

// notice is which notice of a key is due, in days before its end; 0 is none.
func notice(k Key, now time.Time) int {
	if k.ExpiresAt.IsZero() || !k.RevokedAt.IsZero() || k.ReplacedBy != "" || !k.ExpiresAt.After(now) {
		return 0
	}
	due := 0
	for _, d := range noticeDays {
		if !k.ExpiresAt.After(now.Add(time.Duration(d) * day)) {
			due = d
		}
	}
	if due == 0 || k.Noticed != 0 && k.Noticed <= due {
		return 0
	}
	return due
}
