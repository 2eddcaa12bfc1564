package scim

import (
	"context"
	"strings"
	"time"

	"github.com/avouch-dev/avouch/audit"
	"github.com/avouch-dev/avouch/internal/problem"
	"github.com/avouch-dev/avouch/org"
	"github.com/avouch-dev/avouch/tenantdb"
)

// member is a person as the directory's side sees one.
type member struct {
	id                 PersonID
	managed            bool // a directory decides about the person, and not the connection that admitted them
	created            time.Time
	suspended, paused  time.Time // when, and when by the directory
	version            int64
	owns               bool // has ways in of their own: a password, a factor
	name, address, ext string
	groups             []ref
}

// ref is a reference of a resource to another.
type ref struct {
	Value   string `json:"value"`
	Ref     string `json:"$ref,omitempty"`
	Display string `json:"display,omitempty"`
	Type    string `json:"type,omitempty"`
}

func (m member) active() bool { return m.suspended.IsZero() }

// wanted is what a directory says that somebody is.
type wanted struct {
	name, address, external string
	active                  bool
}

// attributes is a member as PATCH finds one, with names in lower case.
func (m member) attributes() map[string]any {
	a := map[string]any{
		"username": m.address, "displayname": m.name, "active": m.active(), "name": map[string]any{"formatted": m.name},
		"emails": []any{map[string]any{"value": m.address, "type": "work", "primary": true}},
	}
	if m.ext != "" {
		a["externalid"] = m.ext
	}
	return a
}

// want reads what a directory wants somebody to be, whom it finds as before; the zero member for somebody new. What it does not say
// stays. The user name is the address; an address in emails counts where the user name did not change.
func want(a map[string]any, before member) (w wanted, err error) {
	w = wanted{active: before.id.IsZero() || before.active(), external: before.ext, name: before.name}
	if w.address, err = text(a, "username"); err != nil {
		return w, err
	}
	if mail := email(a["emails"]); mail != "" && w.address == before.address && before.address != "" && mail != before.address {
		w.address = mail
	}
	if w.address == "" {
		return w, errValue("userName is needed.")
	}
	if _, said := a["externalid"]; said || before.id.IsZero() {
		if w.external, err = text(a, "externalid"); err != nil {
			return w, err
		}
	} else {
		w.external = "" // it was removed
	}
	if v, said := a["active"]; said {
		if w.active, err = truth(v); err != nil {
			return w, err
		}
	}
	w.name = displayed(a, before.name)
	if w.name == "" {
		w.name, _, _ = strings.Cut(w.address, "@")
	}
	return w, nil
}

func text(a map[string]any, name string) (string, error) {
	switch v := a[name].(type) {
	case nil:
		return "", nil
	case string:
		if len(v) <= 1000 {
			return strings.TrimSpace(v), nil
		}
	}
	return "", errValue("%s is a text of at most 1000 bytes.", name)
}

// truth also takes booleans as text, as Entra writes them.
func truth(v any) (bool, error) {
	switch v := v.(type) {
	case bool:
		return v, nil
	case string:
		switch strings.ToLower(v) {
		case "true":
			return true, nil
		case "false":
			return false, nil
		}
	}
	return false, errValue("active is true or false.")
}

// email is the primary address, or that of work, or the first.
func email(v any) string {
	list, _ := v.([]any)
	best, rank := "", 0
	for _, one := range list {
		m, _ := one.(map[string]any)
		value, _ := m["value"].(string)
		now := 1
		if t, _ := m["type"].(string); strings.EqualFold(t, "work") {
			now = 2
		}
		if p, err := truth(m["primary"]); err == nil && p {
			now = 3
		}
		if value != "" && now > rank {
			best, rank = strings.TrimSpace(value), now
		}
	}
	return best
}

// displayed is the name to show: the one that was said, of several ways to say it.
func displayed(a map[string]any, before string) string {
	if s, _ := a["displayname"].(string); strings.TrimSpace(s) != "" && s != before {
		return strings.TrimSpace(s)
	}
	parts, _ := a["name"].(map[string]any)
	if s, _ := parts["formatted"].(string); strings.TrimSpace(s) != "" && s != before {
		return strings.TrimSpace(s)
	}
	given, _ := parts["givenname"].(string)
	family, _ := parts["familyname"].(string)
	if given != "" && family != "" {
		return strings.TrimSpace(given + " " + family)
	}
	return before
}

// load is a member whole.
func (r *Room) load(ctx context.Context, tx *tenantdb.ReadTx, id PersonID) (member, error) {
	m, err := findMember(ctx, tx, id)
	if err != nil {
		return m, err
	}
	f, err := r.cfg.People.Profile(ctx, tx, id)
	if err != nil {
		return m, err
	}
	m.name, m.address, m.ext = f.Name, f.Address, f.External
	m.groups, err = groupsOf(ctx, tx, id)
	return m, err
}

// visible is a member of whom a directory may know: of a domain that the organisation has proved.
func (r *Room) visible(ctx context.Context, tx *tenantdb.ReadTx, id PersonID) (member, error) {
	m, err := r.load(ctx, tx, id)
	if problem.Is(err, problem.Missing) {
		return m, notFound("User", id.String())
	}
	if err != nil {
		return m, err
	}
	if _, owned, err := r.cfg.Owns(ctx, tx, domainOf(m.address)); err != nil {
		return m, err
	} else if !owned {
		return m, notFound("User", id.String())
	}
	return m, nil
}

// may is a member whom the directory may change.
func (r *Room) may(ctx context.Context, tx *tenantdb.Tx, id PersonID, ifMatch string) (member, error) {
	m, err := r.visible(ctx, &tx.ReadTx, id)
	if err != nil {
		return m, err
	}
	if !m.managed {
		return m, forbidden("The directory does not decide about this person. An administrator can let it.")
	}
	return m, match(ifMatch, m.version)
}

// provision makes somebody a member.
func (r *Room) provision(ctx context.Context, c tenantdb.Caller, w wanted) (m member, err error) {
	id := audit.NewSubjectID()
	normal, _, err := r.cfg.People.Address(ctx, w.address)
	if err != nil {
		return m, errValue("userName is the person's e-mail address.")
	}
	if err := r.cfg.People.Prepare(ctx, c.Tenant(), id); err != nil {
		return m, err
	}
	err = r.change(ctx, c, "provision", func(tx *tenantdb.Tx) ([]audit.Event, error) {
		roles, owned, err := r.cfg.Owns(ctx, &tx.ReadTx, domainOf(normal))
		if err != nil {
			return nil, err
		}
		if !owned {
			return nil, errValue("userName is an address of a domain that the organisation has proved.")
		}
		if err := r.free(ctx, tx, w.external); err != nil {
			return nil, err
		}
		_, joined, err := r.cfg.People.Admit(ctx, tx, org.NewPerson{
			ID: id, Name: w.name, Address: normal, Roles: roles, ManagedBy: Directory, External: w.external, Verified: true, Via: "directory",
		})
		if problem.Is(err, problem.Conflict) {
			return nil, taken("userName")
		}
		if err != nil {
			return nil, err
		}
		events := []audit.Event{joined}
		if !w.active {
			paused, err := r.pause(ctx, tx, id, true)
			if err != nil {
				return nil, err
			}
			events = append(events, paused)
		}
		m, err = r.load(ctx, &tx.ReadTx, id)
		return events, err
	})
	return m, err
}

// free refuses an external id that somebody has.
func (r *Room) free(ctx context.Context, tx *tenantdb.Tx, external string) error {
	if external == "" {
		return nil
	}
	pseudonym, err := r.cfg.People.External(ctx, tx.Tenant(), external)
	if err != nil {
		return err
	}
	found, err := byExternal(ctx, &tx.ReadTx, pseudonym)
	if err == nil && !found.IsZero() {
		err = taken("externalId")
	}
	return err
}

// revise makes a member what the directory wants, which it says of the member as it was.
func (r *Room) revise(ctx context.Context, c tenantdb.Caller, id PersonID, ifMatch string, says func(before member) (wanted, error)) (m member, err error) {
	if err := r.known(ctx, c, id); err != nil {
		return m, err
	}
	err = r.change(ctx, c, "revise", func(tx *tenantdb.Tx) ([]audit.Event, error) {
		before, err := r.may(ctx, tx, id, ifMatch)
		if err != nil {
			return nil, err
		}
		w, err := says(before)
		if err != nil {
			return nil, err
		}
		if err := r.readdress(ctx, tx, before, &w); err != nil {
			return nil, err
		}
		directed, err := r.cfg.People.Direct(ctx, tx, id, Directory, org.Profile{Name: w.name, Address: w.address, External: w.external})
		if problem.Is(err, problem.Conflict) {
			return nil, taken("userName or externalId")
		}
		if err != nil {
			return nil, err
		}
		events := []audit.Event{directed}
		if w.active != before.active() {
			e, err := r.pause(ctx, tx, id, !w.active)
			if err != nil {
				return nil, err
			}
			events = append(events, e)
		}
		m, err = r.load(ctx, &tx.ReadTx, id)
		return events, err
	})
	return m, err
}

// known reads a person once, so that an id that nobody has makes no key.
func (r *Room) known(ctx context.Context, c tenantdb.Caller, id PersonID) error {
	if err := r.read(ctx, c, "known", func(tx *tenantdb.ReadTx) error {
		_, err := r.visible(ctx, tx, id)
		return err
	}); err != nil {
		return err
	}
	return r.cfg.People.Prepare(ctx, c.Tenant(), id)
}

// readdress refuses an address that would give an account away: whoever reads the mail of an address can have its password set
// anew. It also makes the address the normal one.
func (r *Room) readdress(ctx context.Context, tx *tenantdb.Tx, before member, w *wanted) error {
	normal, _, err := r.cfg.People.Address(ctx, w.address)
	if err != nil {
		return errValue("userName is the person's e-mail address.")
	}
	if w.address = normal; normal == before.address {
		return nil
	}
	if _, owned, err := r.cfg.Owns(ctx, &tx.ReadTx, domainOf(normal)); err != nil {
		return err
	} else if !owned {
		return errValue("userName is an address of a domain that the organisation has proved.")
	}
	s, err := r.cfg.People.Standing(ctx, &tx.ReadTx, before.id)
	if err != nil {
		return err
	}
	if before.owns || (org.Rules{}).NeedsMFA(s.Roles, s.Capabilities) { // who governs, whatever the rules are
		return forbidden("The address of somebody who has a password or a second factor, or who governs the organisation, is not the directory's to change: release the person from it first.")
	}
	return nil
}

// pause suspends somebody, or undoes that. Whom a person suspended, a directory does not resume.
func (r *Room) pause(ctx context.Context, tx *tenantdb.Tx, id PersonID, off bool) (audit.Event, error) {
	at := time.Time{}
	if off {
		at = r.instant()
	} else {
		m, err := findMember(ctx, &tx.ReadTx, id)
		if err != nil {
			return audit.Event{}, err
		}
		if !m.suspended.Equal(m.paused) {
			return audit.Event{}, forbidden("An administrator suspended this person: the directory cannot resume them.")
		}
	}
	_, e, err := r.cfg.People.Pause(ctx, tx, id, at)
	if problem.Is(err, problem.Conflict) {
		return e, forbidden("This is the last owner who can act.")
	}
	if err != nil {
		return e, err
	}
	e.Public = append(e.Public, field("by", "directory"))
	return e, markPaused(ctx, tx, id, at)
}

// depart ends somebody's membership, with all that they have.
func (r *Room) depart(ctx context.Context, c tenantdb.Caller, id PersonID, ifMatch string) error {
	if err := r.known(ctx, c, id); err != nil {
		return err
	}
	return r.change(ctx, c, "depart", func(tx *tenantdb.Tx) ([]audit.Event, error) {
		if _, err := r.may(ctx, tx, id, ifMatch); err != nil {
			return nil, err
		}
		_, e, err := r.cfg.People.Offboard(ctx, tx, id, "directory")
		if problem.Is(err, problem.Conflict) {
			return nil, forbidden("This is the last owner who can act.")
		}
		return []audit.Event{e}, err
	})
}

// findUsers is the page of those whom a filter finds, and how many it finds. Without a filter it is all about whom the directory
// decides.
func (r *Room) findUsers(ctx context.Context, c tenantdb.Caller, f Filter, start, count int) (found []member, total int, err error) {
	by, rest, err := r.key(ctx, c, f)
	if err != nil {
		return nil, 0, err
	}
	err = r.read(ctx, c, "findUsers", func(tx *tenantdb.ReadTx) error {
		if f == nil {
			ids, n, err := listMembers(ctx, tx, start-1, count)
			total = n
			for _, id := range ids {
				m, err := r.load(ctx, tx, id)
				if err != nil {
					return err
				}
				found = append(found, m)
			}
			return err
		}
		id, err := by(tx)
		if err != nil || id.IsZero() {
			return err
		}
		m, err := r.visible(ctx, tx, id)
		if problem.Is(asProblem(err), problem.Missing) {
			return nil
		}
		if err != nil || !fits(m, rest) {
			return err
		}
		if total = 1; start == 1 && count > 0 {
			found = []member{m}
		}
		return nil
	})
	return found, total, err
}

// key is how to find who is meant: by one comparison that finds one at most; the others are then held against who was found.
func (r *Room) key(ctx context.Context, c tenantdb.Caller, f Filter) (by func(*tenantdb.ReadTx) (PersonID, error), rest Filter, err error) {
	for _, q := range f {
		value, isText := q.Value.(string)
		var pseudonym string
		nobody := func(*tenantdb.ReadTx) (PersonID, error) { return PersonID{}, nil }
		switch q.Attribute {
		case "active":
			rest = append(rest, q)
			continue
		case "username", "emails.value", "emails":
			if _, pseudonym, err = r.cfg.People.Address(ctx, value); err != nil || !isText {
				by, err = nobody, nil
			} else if by == nil {
				by = func(tx *tenantdb.ReadTx) (PersonID, error) { return byAddress(ctx, tx, pseudonym) }
			}
		case "externalid":
			if pseudonym, err = r.cfg.People.External(ctx, c.Tenant(), value); err != nil {
				return nil, nil, err
			}
			if by == nil {
				by = func(tx *tenantdb.ReadTx) (PersonID, error) { return byExternal(ctx, tx, pseudonym) }
			}
		case "id":
			var id PersonID
			if id.UnmarshalText([]byte(value)) != nil {
				by = nobody
			} else if by == nil {
				by = func(*tenantdb.ReadTx) (PersonID, error) { return id, nil }
			}
		default:
			return nil, nil, errFilter("is by " + q.Attribute + ": users are found by userName, emails.value, externalId and id")
		}
		rest = append(rest, q)
	}
	if by == nil && f != nil {
		return nil, nil, errFilter("finds nobody: say a userName, an externalId or an id, too")
	}
	return by, rest, nil
}

// fits holds every comparison against a member.
func fits(m member, f Filter) bool {
	for _, q := range f {
		have := map[string]any{"username": m.address, "emails.value": m.address, "emails": m.address, "externalid": m.ext, "id": m.id.String(), "active": m.active()}[q.Attribute]
		if !q.equals(have) {
			return false
		}
	}
	return true
}
