package org

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/avouch-dev/avouch/audit"
	"github.com/avouch-dev/avouch/internal/pgfault"
	"github.com/avouch-dev/avouch/internal/problem"
	"github.com/avouch-dev/avouch/internal/secret"
	"github.com/avouch-dev/avouch/internal/web"
	"github.com/avouch-dev/avouch/keyring"
	"github.com/avouch-dev/avouch/tenantdb"
	"github.com/avouch-dev/avouch/trail"
)

func (c *company) micros(at time.Time) string { return strconv.FormatInt(at.UnixMicro(), 10) }

// rewrite writes the row of the organisation as a superuser, past all nets.
func (c *company) rewrite(t *testing.T, set string) {
	t.Helper()
	c.Admin(t, `ALTER TABLE avouch.organisation DISABLE TRIGGER require_entry; UPDATE avouch.organisation SET `+set+` WHERE tenant_id = '`+c.id.String()+`';
ALTER TABLE avouch.organisation ENABLE ALWAYS TRIGGER require_entry`)
}

func sqlTime(at time.Time) string { return "'" + at.UTC().Format(time.RFC3339Nano) + "'" }

// logs puts an entry about a deletion into the log, as one does who can write there too.
func (c *company) logs(t *testing.T, typ string, at time.Time) {
	t.Helper()
	o := Organisation{DeletedAt: at}
	err := c.DB.Change(t.Context(), c.system(), func(tx *tenantdb.Tx) (audit.Event, error) {
		return audit.Event{Type: typ, Target: deletionTarget(c.id), Public: []audit.Field{o.gone()}}, nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// watched has a room whose incidents are counted.
func (c *company) watched() *[]string {
	var raised []string
	c.with.Raise = func(_ context.Context, by tenantdb.Caller, kind, subject, detail string) (bool, error) {
		if kind != DeletionUnproved {
			detail = kind + ": " + detail
		}
		raised = append(raised, by.Tenant().String()+" "+subject+" "+detail)
		return true, nil
	}
	c.room = New(c.with)
	return &raised
}

// keeps makes sure that nothing is destroyed, and that it is said that something is wrong if something is, to the operator and the organisation.
func (c *company) keeps(t *testing.T, raised *[]string, says string) {
	t.Helper()
	*raised = nil
	if done, err := c.room.Shred(t.Context(), c.system()); done || err != nil {
		t.Errorf("shredded: %v, %v", done, err)
	}
	for _, use := range uses() {
		if live, _, err := c.Ring.Versions(c.id, use); err != nil || live == 0 {
			t.Errorf("the key %s is gone: %v", use, err)
		}
	}
	platform, own := tenantdb.Platform.String()+" "+c.id.String()+" ", c.id.String()+"  "
	switch {
	case says == "" && len(*raised) == 0:
	case says != "" && len(*raised) == 2 && strings.HasPrefix((*raised)[0], platform) && strings.HasPrefix((*raised)[1], own) && strings.Contains((*raised)[1], says):
	default:
		t.Errorf("raised %q; it should say %q", *raised, says)
	}
}

func uses() []keyring.Use {
	return []keyring.Use{keyring.UseWrap, keyring.UseAPIKey, keyring.UsePseudonym, keyring.UseSubjects, keyring.UsePII}
}

// TestShredWantsTheKeyStore: what is in the database alone destroys no key, whoever wrote it there and whatever it is. It is an incident.
func TestShredWantsTheKeyStore(t *testing.T) {
	t.Parallel()
	long := 31 * 24 * time.Hour
	t.Run("a row", func(t *testing.T) {
		t.Parallel()
		c := openCompany(t)
		raised, at := c.watched(), c.now().Add(-long)
		c.rewrite(t, `suspended_at = `+sqlTime(at)+`, deleted_at = `+sqlTime(at))
		c.keeps(t, raised, "the log does not")
		c.later(2 * long)
		c.keeps(t, raised, "the log does not")
		c.rewrite(t, `shredded_at = `+sqlTime(at))
		c.keeps(t, raised, "the log does not")
		c.rewrite(t, `shredded_at = NULL`)
		ok(t, c.room.Restore(t.Context(), c.system(), ""), "restore")
		c.keeps(t, raised, "")
	})
	t.Run("a row and the log", func(t *testing.T) {
		t.Parallel()
		c := openCompany(t)
		raised, at := c.watched(), c.now().Add(-long)
		c.logs(t, wasDeleted, at)
		c.rewrite(t, `deleted_at = `+sqlTime(at))
		c.keeps(t, raised, "30 days from now")
		c.later(Grace - time.Minute)
		c.keeps(t, raised, "")
		c.logs(t, wasShredded, at)
		c.rewrite(t, `shredded_at = `+sqlTime(at))
		c.keeps(t, raised, "") // whatever else they write, the time counts from when the key store learned of it
	})
	t.Run("a deletion that was taken back", func(t *testing.T) {
		t.Parallel()
		c := openCompany(t)
		raised := c.watched()
		at := c.deleted(t, c.person(t, "boss", RoleOwner), PersonID{}, "")
		c.later(12 * 24 * time.Hour)
		ok(t, c.room.Restore(t.Context(), c.system(), ""), "restore")
		c.later(long)
		c.logs(t, wasDeleted, at) // as the backup of a day between has it
		c.rewrite(t, `deleted_at = `+sqlTime(at)+`, suspended_at = `+sqlTime(at))
		for range 3 {
			c.keeps(t, raised, "older backup")
			c.later(long)
		}
		ok(t, c.room.Restore(t.Context(), c.system(), ""), "restore")
		c.keeps(t, raised, "")
	})
	t.Run("an older deletion than the last", func(t *testing.T) {
		t.Parallel()
		c := openCompany(t)
		raised, boss := c.watched(), c.person(t, "boss", RoleOwner)
		at := c.deleted(t, boss, PersonID{}, "")
		ok(t, c.room.Restore(t.Context(), c.system(), ""), "restore")
		c.later(time.Hour)
		again := c.deleted(t, boss, PersonID{}, "")
		c.logs(t, wasDeleted, at)
		c.rewrite(t, `deleted_at = `+sqlTime(at))
		c.later(long)
		c.keeps(t, raised, "older backup")
		ok(t, c.room.Restore(t.Context(), c.system(), ""), "restore")
		c.logs(t, wasDeleted, again)
		c.rewrite(t, `deleted_at = `+sqlTime(again))
		c.keeps(t, raised, "older backup") // it was taken back with the other
	})
	t.Run("a row of before the deletion", func(t *testing.T) {
		t.Parallel()
		c := openCompany(t)
		raised, boss := c.watched(), c.person(t, "boss", RoleOwner)
		at := c.deleted(t, boss, PersonID{}, "")
		c.later(long)
		c.rewrite(t, `deleted_at = NULL, suspended_at = NULL`)
		c.keeps(t, raised, "its row says that it is not")
		c.logs(t, wasRestored, at) // as if nothing had been
		c.keeps(t, raised, "It is not deleted")
		c.keeps(t, raised, "")
		c.logs(t, wasDeleted, at)
		c.rewrite(t, `deleted_at = `+sqlTime(at))
		c.keeps(t, raised, "older backup")
	})
}

// TestDeletionInterrupted: a crash between the key store and the database, a key store that was restored, and what is damaged there
// destroy nothing before its time.
func TestDeletionInterrupted(t *testing.T) {
	t.Parallel()
	t.Run("crashed", func(t *testing.T) {
		t.Parallel()
		c := openCompany(t)
		raised, at := c.watched(), c.now()
		ok(t, c.Ring.NoteDeletion(t.Context(), c.id, keyring.Deletion{At: at, Since: at}), "note")
		c.later(undecided - time.Minute)
		c.keeps(t, raised, "") // it may be on its way
		c.later(2 * Grace)
		c.keeps(t, raised, "It is not deleted")
		c.keeps(t, raised, "")
		c.logs(t, wasDeleted, at)
		c.rewrite(t, `deleted_at = `+sqlTime(at))
		c.keeps(t, raised, "older backup")
	})
	t.Run("failed", func(t *testing.T) {
		t.Parallel()
		c := openCompany(t)
		raised, boss := c.watched(), c.as(t, c.person(t, "boss", RoleOwner))
		c.Admin(t, `CREATE FUNCTION avouch.no() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RAISE EXCEPTION ''no''; END';
CREATE TRIGGER no BEFORE UPDATE ON avouch.organisation FOR EACH ROW EXECUTE FUNCTION avouch.no()`)
		if _, err := c.room.Delete(t.Context(), boss, "Acme", ""); err == nil {
			t.Error("deleted")
		}
		if noted, err := c.Ring.Deletion(t.Context(), c.id); err != nil || !noted.TakenBack {
			t.Errorf("the key store says %+v, %v", noted, err)
		}
		c.keeps(t, raised, "")
		c.Admin(t, `DROP TRIGGER no ON avouch.organisation`)
		c.deleted(t, mustPerson(boss), PersonID{}, "")
		c.later(Grace)
		if done, err := c.room.Shred(t.Context(), c.system()); !done || err != nil {
			t.Errorf("shredded: %v, %v", done, err)
		}
	})
	t.Run("restored key store", func(t *testing.T) {
		t.Parallel()
		c := openCompany(t)
		raised := c.watched()
		c.deleted(t, c.person(t, "boss", RoleOwner), PersonID{}, "")
		c.later(Grace + time.Hour)
		ok(t, os.Remove(c.noteFile()), "the key store of before")
		c.keeps(t, raised, "30 days from now")
		c.later(Grace - time.Hour)
		c.keeps(t, raised, "")
		c.later(time.Hour)
		if done, err := c.room.Shred(t.Context(), c.system()); !done || err != nil {
			t.Errorf("shredded: %v, %v", done, err)
		}
	})
	t.Run("damaged", func(t *testing.T) {
		t.Parallel()
		c := openCompany(t)
		raised := c.watched()
		c.deleted(t, c.person(t, "boss", RoleOwner), PersonID{}, "")
		c.later(Grace)
		other, _ := c.create(t, "Globex", "")
		ok(t, c.Ring.NoteDeletion(t.Context(), other.ID, keyring.Deletion{At: c.now(), Since: c.now()}), "another's")
		of, err := os.ReadFile(strings.Replace(c.noteFile(), c.id.String(), other.ID.String(), 1))
		ok(t, err, "another's")
		for _, content := range [][]byte{of, []byte("x"), nil} {
			ok(t, os.WriteFile(c.noteFile(), content, 0o600), "write")
			c.keeps(t, raised, "does not open")
		}
		ok(t, c.room.Restore(t.Context(), c.system(), ""), "restore")
		c.keeps(t, raised, "")
	})
}

// TestUncertainDeletionIsNotTakenBack: where a server does not learn whether the deletion was committed, and it was, its keys are destroyed
// in time like any other's.
func TestUncertainDeletionIsNotTakenBack(t *testing.T) {
	t.Parallel()
	c := openCompany(t)
	raised, boss := c.watched(), c.as(t, c.person(t, "boss", RoleOwner))
	server, proxy := c.Behind(t)
	var losing sync.Once
	proxy.Choose(func(tag string) pgfault.Fault {
		if _, err := os.Stat(c.noteFile()); err != nil || tag != "COMMIT" {
			return pgfault.Pass
		}
		losing.Do(func() { go server.DB.Close() }) // as one that is stopped: it cannot look what became of it
		return pgfault.Lose
	})
	with := c.with
	with.DB = server.DB
	if _, err := New(with).Delete(t.Context(), boss, "Acme", ""); !problem.Uncertain(err) || proxy.Faults() == 0 {
		t.Fatalf("after %d faults: %v", proxy.Faults(), err)
	}
	o, err := c.room.Get(t.Context(), c.system())
	ok(t, err, "get")
	if noted, err := c.Ring.Deletion(t.Context(), c.id); o.DeletedAt.IsZero() || !noted.At.Equal(o.DeletedAt) || noted.TakenBack || err != nil {
		t.Errorf("deleted at %v, and the key store says %+v, %v", o.DeletedAt, noted, err)
	}
	c.keeps(t, raised, "")
	c.later(Grace)
	if done, err := c.room.Shred(t.Context(), c.system()); !done || err != nil || len(*raised) > 0 {
		t.Errorf("shredded: %v, %v; raised %q", done, err, *raised)
	}
	c.destroyed(t, 1)
}

func (c *company) noteFile() string {
	_, store, _ := c.Places()
	return filepath.Join(store, "tenants", c.id.String(), "deletion")
}

// TestJudge: whatever the three places say, keys are destroyed only where all say the same, and said it long enough ago.
func TestJudge(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 23, 0, 0, 0, 0, time.UTC)
	rapid.Check(t, func(rt *rapid.T) {
		instant := func(label string) time.Time {
			days := rapid.IntRange(0, 3).Draw(rt, label)
			if days == 0 {
				return time.Time{}
			}
			return now.Add(-time.Duration(days) * (Grace / 2))
		}
		f := fate{Organisation: Organisation{DeletedAt: instant("row"), ShreddedAt: instant("shredded")}, unread: rapid.Bool().Draw(rt, "unread")}
		f.noted = keyring.Deletion{At: instant("noted"), Since: instant("since"), TakenBack: rapid.Bool().Draw(rt, "taken back")}
		said := Organisation{DeletedAt: instant("log")}
		f.last = audit.Entry{Type: rapid.SampledFrom([]string{"", deletionAsked, wasDeleted, wasRestored, wasShredded}).Draw(rt, "type"), Public: []audit.Field{said.gone()}}
		v, wrong := f.judge(now)
		deleted := !f.DeletedAt.IsZero()
		logged := f.last.Type == wasDeleted && f.ShreddedAt.IsZero() || f.last.Type == wasShredded && !f.ShreddedAt.IsZero()
		agree := !f.unread && deleted && logged && said.DeletedAt.Equal(f.DeletedAt) && f.noted.At.Equal(f.DeletedAt) && !f.noted.TakenBack
		over := now.Sub(f.DeletedAt) >= Grace && now.Sub(f.noted.Since) >= Grace
		if (v == destroy) != (agree && over) {
			rt.Errorf("%s: %s", v, wrong)
		}
		if agree && wrong != "" || v == unproved && wrong == "" || !agree && deleted && wrong == "" {
			rt.Errorf("agree %v, %s: %q", agree, v, wrong)
		}
	})
}

// TestShred: every key of the organisation is gone, each version, for good; the log can be verified as before.
func TestShred(t *testing.T) {
	t.Parallel()
	c := openCompany(t)
	raised := c.watched()
	boss := c.person(t, "boss", RoleOwner)
	kept, owner := c.create(t, "Globex", "ops@globex.example")
	_, err := c.room.Update(t.Context(), c.as(t, boss), `"1"`, Change{ContactEmail: new("ops@acme.example")})
	ok(t, err, "a contact")
	for _, use := range uses() {
		ok(t, second(c.Ring.Renew(t.Context(), c.id, use)), "a second version")
	}
	if own, of := c.keyFiles(t, c.id); len(own) != 2*len(uses()) || len(of) < 2 {
		t.Fatalf("before, there are %v and %v", own, of)
	}
	others, _ := c.keyFiles(t, kept.ID)
	sealed, err := c.Ring.SealFields(t.Context(), c.id, boss, []byte("hidden"), nil)
	ok(t, err, "seal")
	c.deleted(t, boss, PersonID{}, "")
	c.later(Grace)
	want(t, second(c.room.Shred(t.Context(), c.owner)), problem.Denied, "not the operator")
	for _, first := range []bool{true, false} {
		if done, err := c.room.Shred(t.Context(), c.system()); err != nil || done != first {
			t.Errorf("shredded %v, %v", done, err)
		}
	}
	c.destroyed(t, 2)
	if now, _ := c.keyFiles(t, kept.ID); len(now) != len(others) {
		t.Errorf("of the other organisation there were %v, and are %v", others, now)
	}
	other := c.Another(t)
	if b, err := other.Ring.OpenFields(t.Context(), c.id, boss, sealed, nil); !errors.Is(err, keyring.ErrDestroyed) {
		t.Errorf("what was sealed of a person opens as %q, %v", b, err)
	}
	again := New(Config{DB: other.DB, Ring: other.Ring, FirstKey: c.keys, Now: c.now})
	if _, err := other.Ring.SealFields(t.Context(), c.id, boss, []byte("hidden"), nil); !errors.Is(err, keyring.ErrDestroyed) {
		t.Errorf("something is sealed of a person: %v", err)
	}
	for what, room := range map[string]*Room{"here": c.room, "on another server": again} {
		c.staysShut(t, what, room, boss)
	}
	log := trail.New(trail.Config{DB: other.DB, Sealer: other.Ring, Host: "avouch.test", Log: c.Log})
	audited(t, log, c.id)
	if o, err := c.room.Get(t.Context(), owner); err != nil || o.ContactEmail != "ops@globex.example" || o.ID != kept.ID {
		t.Errorf("the other organisation: %+v, %v", o, err)
	}
	if len(*raised) != 0 {
		t.Errorf("raised %q", *raised)
	}
}

// TestShredPassesOverWhatIsLost: keys that are lost, and one that cannot be destroyed, keep no other from its end; nor does what a process
// that was killed left of one.
func TestShredPassesOverWhatIsLost(t *testing.T) {
	t.Parallel()
	c := openCompany(t)
	for range 2 {
		for _, use := range uses() {
			ok(t, second(c.Ring.Renew(t.Context(), c.id, use)), "another version")
		}
	}
	c.deleted(t, c.person(t, "boss", RoleOwner), PersonID{}, "")
	_, store, _ := c.Places()
	home := filepath.Join(store, "tenants", c.id.String())
	left := filepath.Join(store, "tmp", "key-tenants."+c.id.String()+".pseudonym.2.123")
	stubborn := filepath.Join(home, "wrap", "2")
	ok(t, errors.Join(os.Remove(filepath.Join(home, "wrap", "1")), os.RemoveAll(filepath.Join(home, "pseudonym")), os.Remove(filepath.Join(home, "pii", "2")),
		os.WriteFile(left, []byte("k"), 0o600), os.Remove(stubborn), os.Mkdir(stubborn, 0o700)), "what is lost")
	c.later(Grace)
	if done, err := c.room.Shred(t.Context(), c.system()); done || err == nil {
		t.Errorf("one that cannot be destroyed: %v, %v", done, err)
	}
	gone := func(when string) {
		t.Helper()
		if own, _ := c.keyFiles(t, c.id); len(own) > 0 {
			t.Errorf("%s: %v are left", when, own)
		}
		if _, err := os.Lstat(left); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s: what a process left is there: %v", when, err)
		}
	}
	gone("but for one")
	ok(t, os.Remove(stubborn), "let go")
	for range 2 {
		if done, err := c.room.Shred(t.Context(), c.system()); done || err != nil {
			t.Errorf("again: %v, %v", done, err)
		}
	}
	gone("in the end")
	ok(t, os.Rename(home, home+".away"), "lost as a whole")
	if done, err := c.room.Shred(t.Context(), c.system()); done || !errors.Is(err, keyring.ErrUnknownTenant) {
		t.Errorf("of a key store that is another: %v, %v", done, err)
	}
}

// TestShredOfOwnKey: where an organisation has a key management of its own, its own key is destroyed with the others, and that is not asked.
func TestShredOfOwnKey(t *testing.T) {
	t.Parallel()
	c := openCompany(t)
	c.deleted(t, c.person(t, "boss", RoleOwner), PersonID{}, "")
	_, store, file := c.Places()
	p, err := keyring.LoadPlatform(secret.String{}, file)
	ok(t, err, "the platform key")
	kms, err := p.Wrapper("customer")
	ok(t, err, "a key management")
	with, err := keyring.New(t.Context(), keyring.Config{Dir: store, Platform: p, Own: func(context.Context, tenantdb.TenantID, keyring.SettingID) (keyring.KeyWrapper, error) {
		return kms, nil
	}})
	ok(t, err, "a ring")
	ok(t, second(with.HandOver(t.Context(), c.id, keyring.SettingID{1}, kms)), "hand over")
	ok(t, second(with.Renew(t.Context(), c.id, keyring.UsePII)), "a second version")
	c.later(Grace)
	if done, err := c.room.Shred(t.Context(), c.system()); !done || err != nil { // by a server that does not reach it
		t.Errorf("shredded: %v, %v", done, err)
	}
	c.destroyed(t, 1)
	if setting, err := with.OwnSetting(t.Context(), c.id); setting != (keyring.SettingID{}) || err != nil {
		t.Errorf("the own key is left: %v, %v", setting, err)
	}
}

// destroyed makes sure that no key of the organisation's is left: all have so many versions at least.
func (c *company) destroyed(t *testing.T, versions uint32) {
	t.Helper()
	for _, use := range uses() {
		if live, last, err := c.Ring.Versions(c.id, use); err != nil || live != 0 || last < versions {
			t.Errorf("of the key %s version %d of %d is left, %v", use, live, last, err)
		}
	}
	if own, _ := c.keyFiles(t, c.id); len(own) > 0 {
		t.Errorf("%v are left", own)
	}
}

// keyFiles are the keys that the key store has of an organisation, and those that it has of data subjects: these are wrapped under one of
// the others.
func (c *company) keyFiles(t *testing.T, id tenantdb.TenantID) (own, subjects []string) {
	t.Helper()
	_, store, _ := c.Places()
	home := filepath.Join(store, "tenants", id.String())
	err := filepath.WalkDir(home, func(path string, d os.DirEntry, err error) error {
		name := strings.TrimPrefix(path, home+"/")
		switch {
		case err != nil || d.IsDir() || strings.HasSuffix(name, ".destroyed") || strings.HasSuffix(name, ".lock") || name == "deletion":
		case strings.HasPrefix(name, "subject/"):
			subjects = append(subjects, name)
		default:
			own = append(own, name)
		}
		return err
	})
	ok(t, err, "the key store")
	return own, subjects
}

func (c *company) staysShut(t *testing.T, what string, room *Room, boss PersonID) {
	t.Helper()
	o, err := room.Get(t.Context(), c.system())
	if err != nil || o.ContactEmail != "" || o.ShreddedAt.IsZero() {
		t.Errorf("%s: %+v, %v", what, o, err)
	}
	if p, err := room.Person(t.Context(), c.system(), boss); err == nil && (p.Name != "" || p.Address != "") {
		t.Errorf("%s: %+v", what, p)
	}
	want(t, room.Restore(t.Context(), c.system(), ""), problem.Conflict, what+": restore")
	_, err = c.keys.Authenticate(t.Context(), c.key, web.RequestMeta{})
	want(t, err, problem.Unauthenticated, what+": its key")
}
