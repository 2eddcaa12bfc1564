package vault

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/avouch-dev/avouch/audit"
	"github.com/avouch-dev/avouch/internal/id"
	"github.com/avouch-dev/avouch/keyring"
	"github.com/avouch-dev/avouch/tenantdb"
)

const itemColumns = `i.item_id, i.kind, i.about, i.secret, i.secret_version, i.counter, i.taken, i.policy, i.listed, i.creator_kind, i.creator, i.created_at, i.version, i.mark`

func scanItem(row pgx.CollectableRow) (i Item, err error) {
	var policy []byte
	err = row.Scan(&i.ID, &i.Kind, &i.about, &i.secret, &i.secretVersion, &i.counter, &i.taken, &policy, &i.Listed, &i.Creator.Kind, &i.Creator.ID, &i.CreatedAt, &i.Version, &i.mark)
	if err == nil && json.Unmarshal(policy, &i.Policy) != nil {
		i.unread = true // nothing that we wrote: one such row must not hide the others
	}
	return i, err
}

func collect[T any](ctx context.Context, tx *tenantdb.ReadTx, scan pgx.RowToFunc[T], sql string, args ...any) ([]T, error) {
	rows, err := tx.Query(ctx, sql, args...)
	if err != nil {
		return nil, fmt.Errorf("vault: read: %w", err)
	}
	all, err := pgx.CollectRows(rows, scan)
	if err != nil {
		return nil, fmt.Errorf("vault: read: %w", err)
	}
	return all, nil
}

// readItem is one item, or nil.
func readItem(ctx context.Context, tx *tenantdb.ReadTx, id ID) (*Item, error) {
	all, err := collect(ctx, tx, scanItem, `SELECT `+itemColumns+` FROM avouch.vault_item i WHERE i.tenant_id = $1 AND i.item_id = $2`, tx.Tenant(), id)
	if err != nil || len(all) == 0 {
		return nil, err
	}
	return &all[0], nil
}

// readItems are items in the order of their ids, from behind after.
func readItems(ctx context.Context, tx *tenantdb.ReadTx, after ID, most int) ([]Item, error) {
	return collect(ctx, tx, scanItem, `SELECT `+itemColumns+` FROM avouch.vault_item i WHERE i.tenant_id = $1 AND i.item_id > $2 ORDER BY i.item_id LIMIT $3`, tx.Tenant(), after, most)
}

const insertItemsSQL = `
INSERT INTO avouch.vault_item (tenant_id, item_id, kind, about, secret, secret_version, counter, taken, policy, listed, creator_kind, creator, created_at, mark)
SELECT $1, x.id, x.kind, x.about, x.secret, 1, x.counter, x.taken::integer[], x.policy::jsonb, x.listed, x.maker_kind, x.maker, x.at, x.mark
FROM unnest($2::uuid[], $3::text[], $4::bytea[], $5::bytea[], $6::bigint[], $7::text[], $8::text[], $9::boolean[], $10::text[], $11::text[], $12::timestamptz[], $13::bytea[])
  AS x(id, kind, about, secret, counter, taken, policy, listed, maker_kind, maker, at, mark)`

// insertItems inserts new items in one statement: an import has thousands, and the log's head is held.
func insertItems(ctx context.Context, tx *tenantdb.Tx, items []Item) error {
	var (
		ids                                []ID
		kinds, taken, policies, byKind, by []string
		abouts, secrets, marks             [][]byte
		counters                           []int64
		listed                             []bool
		at                                 []time.Time
	)
	for k := range items {
		i := &items[k]
		policy, err := json.Marshal(i.Policy)
		if err != nil {
			return err
		}
		numbers := strings.Trim(strings.ReplaceAll(fmt.Sprint(i.taken), " ", ","), "[]")
		ids, kinds, abouts, secrets, counters = append(ids, i.ID), append(kinds, string(i.Kind)), append(abouts, i.about), append(secrets, i.secret), append(counters, i.counter)
		taken, policies, listed = append(taken, "{"+numbers+"}"), append(policies, string(policy)), append(listed, i.Listed)
		byKind, by, at, marks = append(byKind, i.Creator.Kind), append(by, i.Creator.ID), append(at, i.CreatedAt), append(marks, i.mark)
	}
	if _, err := tx.Exec(ctx, insertItemsSQL, tx.Tenant(), ids, kinds, abouts, secrets, counters, taken, policies, listed, byKind, by, at, marks); err != nil {
		return fmt.Errorf("vault: insert items: %w", err)
	}
	return nil
}

const updateItemSQL = `
UPDATE avouch.vault_item SET about = $3, secret = $4, secret_version = $5, counter = $6, taken = $7, policy = $8, listed = $9, version = $10, mark = $11
WHERE tenant_id = $1 AND item_id = $2`

func updateItem(ctx context.Context, tx *tenantdb.Tx, i *Item) error {
	policy, err := json.Marshal(i.Policy)
	if err != nil {
		return err
	}
	if i.taken == nil {
		i.taken = []int32{}
	}
	n, err := tx.Exec(ctx, updateItemSQL, tx.Tenant(), i.ID, i.about, i.secret, i.secretVersion, i.counter, i.taken, policy, i.Listed, i.Version, i.mark)
	if err == nil && n != 1 {
		err = pgx.ErrNoRows
	}
	if err != nil {
		return fmt.Errorf("vault: update item: %w", err)
	}
	return nil
}

func deleteItem(ctx context.Context, tx *tenantdb.Tx, id ID) error {
	for _, table := range []string{"vault_fetch", "vault_request", "vault_grant", "vault_item"} {
		if _, err := tx.Exec(ctx, `DELETE FROM avouch.`+table+` WHERE tenant_id = $1 AND item_id = $2`, tx.Tenant(), id); err != nil {
			return fmt.Errorf("vault: delete item: %w", err)
		}
	}
	return nil
}

const grantColumns = `g.grant_id, g.item_id, g.kind, g.grantee, g.level, g.granted_by, g.granted_at, g.expires_at, g.ended_at, g.ended_by`

func scanGrant(row pgx.CollectableRow) (g Grant, err error) {
	err = row.Scan(&g.ID, &g.Item, &g.To.Kind, &g.To.ID, &g.Level, &g.GrantedBy, &g.GrantedAt, &g.ExpiresAt, &g.EndedAt, &g.EndedBy)
	return g, err
}

// readGrants are the grants of items that were not ended, the oldest first.
func readGrants(ctx context.Context, tx *tenantdb.ReadTx, items ...ID) ([]Grant, error) {
	return collect(ctx, tx, scanGrant, `SELECT `+grantColumns+` FROM avouch.vault_grant g WHERE g.tenant_id = $1 AND g.item_id = ANY($2) AND g.ended_at IS NULL ORDER BY g.grant_id`, tx.Tenant(), items)
}

// readGrantsTo are the grants to somebody, or to one of their groups; the ended ones too.
func readGrantsTo(ctx context.Context, tx *tenantdb.ReadTx, a Actor, groups []string) ([]Grant, error) {
	return collect(ctx, tx, scanGrant, `SELECT `+grantColumns+` FROM avouch.vault_grant g WHERE g.tenant_id = $1
  AND (g.kind = $2 AND g.grantee = $3 OR g.kind = 'group' AND g.grantee = ANY($4)) ORDER BY g.grant_id`, tx.Tenant(), a.Kind, a.ID, groups)
}

func readGrant(ctx context.Context, tx *tenantdb.ReadTx, item ID, id GrantID) (*Grant, error) {
	all, err := collect(ctx, tx, scanGrant, `SELECT `+grantColumns+` FROM avouch.vault_grant g WHERE g.tenant_id = $1 AND g.item_id = $2 AND g.grant_id = $3`, tx.Tenant(), item, id)
	if err != nil || len(all) == 0 {
		return nil, err
	}
	return &all[0], nil
}

const insertGrantsSQL = `
INSERT INTO avouch.vault_grant (tenant_id, grant_id, item_id, kind, grantee, level, granted_by, granted_at, expires_at, ended_at, ended_by)
SELECT $1, x.* FROM unnest($2::uuid[], $3::uuid[], $4::text[], $5::text[], $6::text[], $7::text[], $8::timestamptz[], $9::timestamptz[], $10::timestamptz[], $11::text[]) AS x`

// insertGrants inserts grants in one statement.
func insertGrants(ctx context.Context, tx *tenantdb.Tx, grants ...Grant) error {
	var (
		ids                   []GrantID
		items                 []ID
		kinds, to, levels, by []string
		at                    []time.Time
		until, ended          []*time.Time
		endedBy               []*string
	)
	for _, g := range grants {
		ids, items, kinds, to, levels = append(ids, g.ID), append(items, g.Item), append(kinds, g.To.Kind), append(to, g.To.ID), append(levels, string(g.Level))
		by, at, until = append(by, g.GrantedBy), append(at, g.GrantedAt), append(until, g.ExpiresAt)
		ended, endedBy = append(ended, g.EndedAt), append(endedBy, g.EndedBy)
	}
	if _, err := tx.Exec(ctx, insertGrantsSQL, tx.Tenant(), ids, items, kinds, to, levels, by, at, until, ended, endedBy); err != nil {
		return fmt.Errorf("vault: insert grants: %w", err)
	}
	return nil
}

func endGrant(ctx context.Context, tx *tenantdb.Tx, id GrantID, at time.Time, by string) error {
	_, err := tx.Exec(ctx, `UPDATE avouch.vault_grant SET ended_at = $3, ended_by = $4 WHERE tenant_id = $1 AND grant_id = $2 AND ended_at IS NULL`, tx.Tenant(), id, at, by)
	if err != nil {
		return fmt.Errorf("vault: end grant: %w", err)
	}
	return nil
}

// endGrantsTo ends all that was granted to somebody, and what they asked for.
func endGrantsTo(ctx context.Context, tx *tenantdb.Tx, a Actor, at time.Time, by string) (int, error) {
	n, err := tx.Exec(ctx, `UPDATE avouch.vault_grant SET ended_at = $4, ended_by = $5 WHERE tenant_id = $1 AND kind = $2 AND grantee = $3 AND ended_at IS NULL`, tx.Tenant(), a.Kind, a.ID, at, by)
	if err == nil {
		_, err = tx.Exec(ctx, `UPDATE avouch.vault_request SET ended_at = $4 WHERE tenant_id = $1 AND kind = $2 AND asker = $3 AND ended_at IS NULL`, tx.Tenant(), a.Kind, a.ID, at)
	}
	if err != nil {
		return 0, fmt.Errorf("vault: end grants: %w", err)
	}
	return int(n), nil
}

const requestColumns = `q.request_id, q.item_id, q.kind, q.asker, q.level, q.reason, q.seconds, q.granted, q.asked_at, q.due_at, q.decided_by, q.decided_at, q.outcome, q.until, q.ended_at`

func scanRequest(row pgx.CollectableRow) (q Request, err error) {
	var seconds int64
	var outcome *string
	err = row.Scan(&q.ID, &q.Item, &q.By.Kind, &q.By.ID, &q.Level, &q.reason, &seconds, &q.Granted, &q.AskedAt, &q.DueAt, &q.DecidedBy, &q.DecidedAt, &outcome, &q.Until, &q.EndedAt)
	q.For = time.Duration(seconds) * time.Second
	if outcome != nil {
		q.Outcome = *outcome
	}
	return q, err
}

// readLent are the requests of items that were approved and were not ended.
func readLent(ctx context.Context, tx *tenantdb.ReadTx, items ...ID) ([]Request, error) {
	return collect(ctx, tx, scanRequest, `SELECT `+requestColumns+` FROM avouch.vault_request q
WHERE q.tenant_id = $1 AND q.item_id = ANY($2) AND q.outcome = 'approved' AND q.ended_at IS NULL`, tx.Tenant(), items)
}

func readRequest(ctx context.Context, tx *tenantdb.ReadTx, id RequestID) (*Request, error) {
	all, err := collect(ctx, tx, scanRequest, `SELECT `+requestColumns+` FROM avouch.vault_request q WHERE q.tenant_id = $1 AND q.request_id = $2`, tx.Tenant(), id)
	if err != nil || len(all) == 0 {
		return nil, err
	}
	return &all[0], nil
}

// readRequests are requests, the newest first, from behind after unless that is zero.
func readRequests(ctx context.Context, tx *tenantdb.ReadTx, after RequestID, most int) ([]Request, error) {
	return collect(ctx, tx, scanRequest, `SELECT `+requestColumns+` FROM avouch.vault_request q
WHERE q.tenant_id = $1 AND ($2::uuid = '00000000-0000-0000-0000-000000000000' OR q.request_id < $2) ORDER BY q.request_id DESC LIMIT $3`, tx.Tenant(), after, most)
}

// openRequests counts what somebody has asked for an item that waits.
func openRequests(ctx context.Context, tx *tenantdb.ReadTx, id ID, a Actor, now time.Time) (n int, err error) {
	err = tx.QueryRow(ctx, `SELECT count(*) FROM avouch.vault_request WHERE tenant_id = $1 AND item_id = $2 AND kind = $3 AND asker = $4 AND outcome IS NULL AND due_at > $5`,
		tx.Tenant(), id, a.Kind, a.ID, now).Scan(&n)
	if err != nil {
		return 0, fmt.Errorf("vault: open requests: %w", err)
	}
	return n, nil
}

// requestsSince counts what was asked since an instant, by somebody and by all. Requests lie in the order of their time.
func requestsSince(ctx context.Context, tx *tenantdb.ReadTx, a Actor, since time.Time) (mine, all int, err error) {
	from := id.At[requestKind](since)
	clear(from[6:])
	err = tx.QueryRow(ctx, `SELECT count(*) FILTER (WHERE kind = $3 AND asker = $4), count(*) FROM avouch.vault_request WHERE tenant_id = $1 AND request_id >= $2`,
		tx.Tenant(), from, a.Kind, a.ID).Scan(&mine, &all)
	if err != nil {
		return 0, 0, fmt.Errorf("vault: requests: %w", err)
	}
	return mine, all, nil
}

const insertRequestSQL = `
INSERT INTO avouch.vault_request (tenant_id, request_id, item_id, kind, asker, level, reason, seconds, granted, asked_at, due_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)`

func insertRequest(ctx context.Context, tx *tenantdb.Tx, q *Request) error {
	_, err := tx.Exec(ctx, insertRequestSQL, tx.Tenant(), q.ID, q.Item, q.By.Kind, q.By.ID, q.Level, q.reason, int64(q.For/time.Second), q.Granted, q.AskedAt, q.DueAt)
	if err != nil {
		return fmt.Errorf("vault: insert request: %w", err)
	}
	return nil
}

func updateRequest(ctx context.Context, tx *tenantdb.Tx, q *Request) error {
	var outcome *string
	if q.Outcome != "" {
		outcome = &q.Outcome
	}
	_, err := tx.Exec(ctx, `UPDATE avouch.vault_request SET decided_by = $3, decided_at = $4, outcome = $5, until = $6, ended_at = $7 WHERE tenant_id = $1 AND request_id = $2`,
		tx.Tenant(), q.ID, q.DecidedBy, q.DecidedAt, outcome, q.Until, q.EndedAt)
	if err != nil {
		return fmt.Errorf("vault: update request: %w", err)
	}
	return nil
}

// readGroups are the groups of a person.
func readGroups(ctx context.Context, tx *tenantdb.ReadTx, person string) ([]string, error) {
	return readGroupsOf(ctx, tx, []string{person})
}

// there says whether somebody to whom something is to be granted is of the organisation, and can use it.
func there(ctx context.Context, tx *tenantdb.ReadTx, a Actor) (is bool, err error) {
	sql := map[string]string{
		APerson: `SELECT EXISTS (SELECT FROM avouch.person WHERE tenant_id = $1 AND person_id::text = $2 AND removed_at IS NULL)`,
		AGroup:  `SELECT EXISTS (SELECT FROM avouch.person_group WHERE tenant_id = $1 AND group_id::text = $2)`,
		AnAgent: `SELECT EXISTS (SELECT FROM avouch.agent WHERE tenant_id = $1 AND agent_id::text = $2 AND revoked_at IS NULL)`,
		AKey:    `SELECT EXISTS (SELECT FROM avouch.api_key WHERE tenant_id = $1 AND key_id = $2 AND revoked_at IS NULL AND kind <> 'data')`,
	}[a.Kind]
	if err := tx.QueryRow(ctx, sql, tx.Tenant(), a.ID).Scan(&is); err != nil {
		return false, fmt.Errorf("vault: grantee: %w", err)
	}
	return is, nil
}

// readHead is the log and the epoch of the transaction's organisation.
func readHead(ctx context.Context, tx *tenantdb.ReadTx) (tenantdb.Head, error) {
	h := tenantdb.Head{Tenant: tx.Tenant()}
	if err := tx.QueryRow(ctx, `SELECT log_id, epoch FROM avouch.audit_head WHERE tenant_id = $1`, h.Tenant).Scan(&h.Log, &h.Epoch); err != nil {
		return h, fmt.Errorf("vault: head: %w", err)
	}
	return h, nil
}

const lastsSQL = `SELECT x.id, e.seq, e.body FROM unnest($2::uuid[]) AS x(id)
CROSS JOIN LATERAL (SELECT l.seq, l.body FROM avouch.audit_entry l WHERE l.tenant_id = $1 AND l.about = x.id ORDER BY l.seq DESC LIMIT 1) e`

// readLasts are the newest entries about things. One that we did not write is none; the pass finds it.
func readLasts[K any](ctx context.Context, tx *tenantdb.ReadTx, ids []id.ID[K]) (map[id.ID[K]]last, error) {
	found := map[id.ID[K]]last{}
	if len(ids) == 0 {
		return found, nil
	}
	_, err := collect(ctx, tx, func(r pgx.CollectableRow) (none struct{}, err error) {
		var of id.ID[K]
		var l last
		var body []byte
		if err = r.Scan(&of, &l.seq, &body); err != nil {
			return none, err
		}
		if e, bad := audit.Decode(body); bad == nil {
			l.entry = e
			found[of] = l
		}
		return none, nil
	}, lastsSQL, tx.Tenant(), ids)
	return found, err
}

// readLast is the newest entry about an item.
func readLast(ctx context.Context, tx *tenantdb.ReadTx, item ID) (last, error) {
	found, err := readLasts(ctx, tx, []ID{item})
	return found[item], err
}

// fetched is what a fetch got that was sent with a key before; found is false if none was.
func fetched(ctx context.Context, tx *tenantdb.ReadTx, id ID, digest [32]byte) (place, version int64, found bool, err error) {
	err = tx.QueryRow(ctx, `SELECT place, version FROM avouch.vault_fetch WHERE tenant_id = $1 AND item_id = $2 AND digest = $3`, tx.Tenant(), id, digest[:]).Scan(&place, &version)
	if errors.Is(err, pgx.ErrNoRows) {
		return 0, 0, false, nil
	}
	if err != nil {
		return 0, 0, false, fmt.Errorf("vault: fetched: %w", err)
	}
	return place, version, true, nil
}

func insertFetched(ctx context.Context, tx *tenantdb.Tx, id ID, f taking) error {
	_, err := tx.Exec(ctx, `INSERT INTO avouch.vault_fetch (tenant_id, item_id, digest, fetched_by, place, version, fetched_at) VALUES ($1, $2, $3, $4, $5, $6, $7)`,
		tx.Tenant(), id, f.key[:], f.by, f.place, f.version, f.at)
	if err != nil {
		return fmt.Errorf("vault: insert fetched: %w", err)
	}
	return nil
}

// deleteFetched forgets fetches that nobody tries again.
func deleteFetched(ctx context.Context, tx *tenantdb.Tx, before time.Time) error {
	if _, err := tx.Exec(ctx, `DELETE FROM avouch.vault_fetch WHERE tenant_id = $1 AND fetched_at < $2`, tx.Tenant(), before); err != nil {
		return fmt.Errorf("vault: delete fetched: %w", err)
	}
	return nil
}

const insertCountersSQL = `INSERT INTO avouch.counter (tenant_id, subject) SELECT $1, unnest($2::text[]) ON CONFLICT DO NOTHING`

func insertCounters(ctx context.Context, tx *tenantdb.Tx, subjects []string) error {
	if _, err := tx.Exec(ctx, insertCountersSQL, tx.Tenant(), subjects); err != nil {
		return fmt.Errorf("vault: insert counters: %w", err)
	}
	return nil
}

// readMarks are those of some marks that items beside others have.
func readMarks(ctx context.Context, tx *tenantdb.ReadTx, marks [][]byte, beside []ID) ([][]byte, error) {
	return collect(ctx, tx, pgx.RowTo[[]byte], `SELECT DISTINCT i.mark FROM avouch.vault_item i WHERE i.tenant_id = $1 AND i.mark = ANY ($2) AND i.item_id <> ALL ($3)`, tx.Tenant(), marks, beside)
}

func countItems(ctx context.Context, tx *tenantdb.ReadTx) (n int, err error) {
	if err = tx.QueryRow(ctx, `SELECT count(*) FROM avouch.vault_item WHERE tenant_id = $1`, tx.Tenant()).Scan(&n); err != nil {
		return 0, fmt.Errorf("vault: count items: %w", err)
	}
	return n, nil
}

// keyMaker is the person to whom a key belongs; "" if it belongs to none.
func keyMaker(ctx context.Context, tx *tenantdb.ReadTx, key string) (person string, err error) {
	err = tx.QueryRow(ctx, `SELECT coalesce(person::text, '') FROM avouch.api_key WHERE tenant_id = $1 AND key_id = $2`, tx.Tenant(), key).Scan(&person)
	if errors.Is(err, pgx.ErrNoRows) {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("vault: key: %w", err)
	}
	return person, nil
}

// key is what the vault wants to know of an API key.
type key struct {
	id, person string // "" is nobody
	works      bool   // it was neither revoked nor has it ended
}

// readKeys are some keys, by their ids.
func readKeys(ctx context.Context, tx *tenantdb.ReadTx, ids []string, now time.Time) (map[string]key, error) {
	found := map[string]key{}
	if len(ids) == 0 {
		return found, nil
	}
	_, err := collect(ctx, tx, func(r pgx.CollectableRow) (k key, err error) {
		err = r.Scan(&k.id, &k.person, &k.works)
		found[k.id] = k
		return k, err
	}, `SELECT k.key_id, coalesce(k.person::text, ''), k.revoked_at IS NULL AND (k.expires_at IS NULL OR k.expires_at > $3)
FROM avouch.api_key k WHERE k.tenant_id = $1 AND k.key_id = ANY ($2)`, tx.Tenant(), ids, now)
	return found, err
}

// scanHolder puts somebody among those who were found.
func scanHolder(found map[Actor]holder) pgx.RowToFunc[holder] {
	return func(row pgx.CollectableRow) (h holder, err error) {
		var a Actor
		err = row.Scan(&a.Kind, &a.ID, &h.name, &h.state)
		found[a] = h
		return h, err
	}
}

// readGroupsOf are the groups in which at least one of some people is.
func readGroupsOf(ctx context.Context, tx *tenantdb.ReadTx, people []string) ([]string, error) {
	return collect(ctx, tx, pgx.RowTo[string], `SELECT DISTINCT m.group_id::text FROM avouch.group_member m WHERE m.tenant_id = $1 AND m.person_id = ANY ($2::uuid[])`, tx.Tenant(), people)
}

func scanRow(r pgx.CollectableRow) (v row, err error) {
	err = r.Scan(&v.seq, &v.body, &v.sealed)
	return v, err
}

// readUses are entries that are found by a name, the newest first.
func readUses(ctx context.Context, tx *tenantdb.ReadTx, about [16]byte, since time.Time, before int64, most int) ([]row, error) {
	return collect(ctx, tx, scanRow, `SELECT e.seq, e.body, e.sealed FROM avouch.audit_entry e
WHERE e.tenant_id = $1 AND e.about = $2 AND e.written_at >= $3 AND ($4::bigint = 0 OR e.seq < $4) ORDER BY e.seq DESC LIMIT $5`, tx.Tenant(), about, since, before, most)
}

// readUsesBy are the entries of a person's uses, the newest first, from behind a number unless that is 0.
func readUsesBy(ctx context.Context, tx *tenantdb.ReadTx, p tenantdb.PersonID, before int64, most int) ([]row, error) {
	return collect(ctx, tx, scanRow, `SELECT e.seq, e.body, e.sealed FROM avouch.audit_entry e
WHERE e.tenant_id = $1 AND e.person = $2 AND get_byte(uuid_send(e.about), 6) >> 4 = 8 AND ($3::bigint = 0 OR e.seq < $3) ORDER BY e.seq DESC LIMIT $4`, tx.Tenant(), p, before, most)
}

// readSeedsLent are the items whose seed was lent to somebody by a request.
func readSeedsLent(ctx context.Context, tx *tenantdb.ReadTx, a Actor) ([]Known, error) {
	return collect(ctx, tx, func(r pgx.CollectableRow) (k Known, err error) {
		k.Why = "seed"
		return k, r.Scan(&k.Item)
	}, `SELECT q.item_id FROM avouch.vault_request q WHERE q.tenant_id = $1 AND q.kind = $2 AND q.asker = $3 AND q.level = 'seed' AND q.outcome = 'approved' ORDER BY q.request_id`,
		tx.Tenant(), a.Kind, a.ID)
}

// readLentTo are the items that approved requests lend to somebody.
func readLentTo(ctx context.Context, tx *tenantdb.ReadTx, a Actor, now time.Time) ([]Request, error) {
	return collect(ctx, tx, scanRequest, `SELECT `+requestColumns+` FROM avouch.vault_request q
WHERE q.tenant_id = $1 AND q.kind = $2 AND q.asker = $3 AND q.outcome = 'approved' AND q.ended_at IS NULL AND q.until > $4`, tx.Tenant(), a.Kind, a.ID, now)
}

// readKeysOf are the keys that a person made, or that came from those; the ended ones too.
func readKeysOf(ctx context.Context, tx *tenantdb.ReadTx, p tenantdb.PersonID) ([]string, error) {
	return collect(ctx, tx, pgx.RowTo[string], `SELECT k.key_id FROM avouch.api_key k WHERE k.tenant_id = $1 AND k.person = $2`, tx.Tenant(), p)
}

// readItemsOfKeys are the items that were ever granted or lent to some keys, and are there.
func readItemsOfKeys(ctx context.Context, tx *tenantdb.ReadTx, keys []string) ([]ID, error) {
	return collect(ctx, tx, pgx.RowTo[ID], `SELECT g.item_id FROM avouch.vault_grant g WHERE g.tenant_id = $1 AND g.kind = 'key' AND g.grantee = ANY ($2)
UNION SELECT q.item_id FROM avouch.vault_request q WHERE q.tenant_id = $1 AND q.kind = 'key' AND q.asker = ANY ($2)`, tx.Tenant(), keys)
}

// Sealed are the columns that hold what Ring.Seal made, for the rotation of organisations' keys.
func Sealed() []keyring.SealedColumn {
	key, item := []keyring.KeyPart{{Column: "item_id", Type: "uuid"}}, func(key []string) string { return "vault/" + key[0] }
	return []keyring.SealedColumn{
		{Table: "vault_item", Column: "about", Key: key, Item: item},
		{Table: "vault_item", Column: "secret", Key: key, Item: item},
	}
}

// isPerson says whether somebody is, or was, of the organisation.
func isPerson(ctx context.Context, tx *tenantdb.ReadTx, p tenantdb.PersonID) (is bool, err error) {
	if err := tx.QueryRow(ctx, `SELECT EXISTS (SELECT FROM avouch.person WHERE tenant_id = $1 AND person_id = $2)`, tx.Tenant(), p).Scan(&is); err != nil {
		return false, fmt.Errorf("vault: person: %w", err)
	}
	return is, nil
}
