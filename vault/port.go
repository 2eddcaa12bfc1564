package vault

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/avouch-dev/avouch/audit"
	"github.com/avouch-dev/avouch/internal/mail"
	"github.com/avouch-dev/avouch/internal/otp"
	"github.com/avouch-dev/avouch/internal/problem"
	"github.com/avouch-dev/avouch/internal/secret"
	"github.com/avouch-dev/avouch/tenantdb"
	"github.com/avouch-dev/avouch/vault/portable"
)

// Import is something that another program wrote, to be kept.
type Import struct {
	Format   portable.Format // "" is guessed
	Data     []byte
	More     [][]byte      // of pictures and addresses, other files that belong to it
	Password secret.String // of an encrypted file
	Folder   string        // for what has none
	DryRun   bool          // only say what would become of it
}

// Imported is what became, or would become, of one entry.
type Imported struct {
	Name      string
	Kind      Kind
	Duplicate bool // of another in the vault, or of one before it: left out
	Item      ID   // zero in a dry run, and for a duplicate
}

// Outcome is what became of an import.
type Outcome struct {
	Format portable.Format
	Items  []Imported
	Faults []portable.Fault // parts that cannot be read: nothing is kept then
	Others int              // parts that hold no secret
}

// Import keeps what another program wrote, all of it or nothing; what the vault has already stays as it is.
func (r *Room) Import(ctx context.Context, c tenantdb.Caller, in Import) (out Outcome, err error) {
	if err := need(c, "vault:write"); err != nil {
		return out, err
	}
	if in.Format == "" {
		in.Format = portable.Guess(in.Data)
	}
	switch {
	case len(in.Data) > portable.MostBytes && in.Format != portable.FormatAge: // which is longer than what is encrypted in it
		return out, problem.New(problem.Invalid, "It has more than %d MiB, and no more is read at once.", portable.MostBytes>>20)
	case in.Format == "":
		return out, problem.New(problem.Invalid, "It seems to be nothing that is known here. If it is one of %s, name its format.", portable.Listed())
	}
	read, err := r.read(ctx, c.Tenant(), in)
	switch {
	case errors.Is(err, portable.ErrEncrypted), errors.Is(err, portable.ErrPassword):
		return out, flawed("It cannot be read as "+string(in.Format)+".", "password", err.Error())
	case errors.Is(err, portable.ErrFormat):
		return out, problem.New(problem.Invalid, "It cannot be read as %s: %v.", in.Format, err)
	}
	if err != nil {
		return out, wrapped("Import", err)
	}
	defer read.Clear()
	out = Outcome{Format: in.Format, Faults: read.Faults, Others: read.Others}
	there, err := r.seeds(ctx, c)
	if err != nil {
		return out, wrapped("Import", err)
	}
	anew, at := there.sort(read.Entries, in.Folder, &out)
	own, refusal, err := r.seedFaults(ctx, c, anew, at)
	switch {
	case err != nil:
		return out, wrapped("Import", err)
	case in.DryRun:
		out.Faults = append(out.Faults, own...)
		if err := r.noteSeed(ctx, c, refusal); err != nil {
			return out, wrapped("Import", err)
		}
		_, err = r.cfg.DB.Record(ctx, c, audit.Event{Type: "vault.import_tried", Target: audit.Target{Kind: "vault", ID: c.Tenant().String()}, Public: counts(out, len(anew))})
		return out, wrapped("Import", err)
	case len(out.Faults) > 0:
		return out, faulty(out.Faults, read.Sealed)
	case refusal != nil:
		return out, wrapped("Import", r.tellOfSeed(ctx, c, refusal))
	case len(anew) == 0:
		return out, nil
	}
	items, err := r.addAll(ctx, c, anew)
	if err != nil {
		return out, wrapped("Import", err)
	}
	for k := range items {
		out.Items[at[k]].Item = items[k].ID
	}
	return out, nil
}

// read reads what is to be imported, in its turn where that takes much memory; of several pictures each in a turn of its own, so that
// those of others come between.
func (r *Room) read(ctx context.Context, t tenantdb.TenantID, in Import) (read portable.Reading, err error) {
	if len(in.More) == 0 {
		err = r.inTurn(ctx, t, portable.Heavy(in.Format, in.Password), func() (err error) {
			read, err = portable.Read(ctx, in.Format, in.Data, in.Password)
			return err
		})
		return read, err
	}
	var all portable.Batches
	for k, data := range append([][]byte{in.Data}, in.More...) {
		f := in.Format
		if k > 0 {
			f = portable.Guess(data)
		}
		if err := r.inTurn(ctx, t, portable.Heavy(f, in.Password), func() error { return all.Add(ctx, f, data) }); err != nil {
			all.Clear()
			return read, err
		}
	}
	return all.Reading()
}

// inTurn does some work, in its turn if it is heavy.
func (r *Room) inTurn(ctx context.Context, t tenantdb.TenantID, heavy bool, work func() error) error {
	if !heavy {
		return work()
	}
	return r.gate.through(ctx, t, work)
}

func counts(o Outcome, anew int) []audit.Field {
	return []audit.Field{field("format", string(o.Format)), field("entries", fmt.Sprint(len(o.Items))), field("new", fmt.Sprint(anew)), field("faults", fmt.Sprint(len(o.Faults)))}
}

// faulty refuses what cannot be read whole. Nobody puts a part right of what is encrypted.
func faulty(faults []portable.Fault, sealed bool) error {
	says, them := fmt.Sprintf("%d parts cannot be read", len(faults)), "them"
	if len(faults) == 1 {
		says, them = "A part cannot be read", "it"
	}
	todo := fmt.Sprintf("Put %s right, or take %[1]s out.", them)
	if sealed {
		todo = fmt.Sprintf("Put %s right in the program that wrote the file, or take %[1]s out there, and export it again.", them)
	}
	p := problem.New(problem.Invalid, "%s, so nothing was imported. %s", says, todo)
	for _, f := range faults[:min(len(faults), 100)] {
		p.Fields = append(p.Fields, problem.Field{Location: f.Place, Message: f.Why})
	}
	return p
}

// sort tells what is to be kept from duplicates, and what cannot be kept; at is where each is among the entries.
func (s *seeds) sort(entries []portable.Entry, folder string, out *Outcome) (anew []Wanted, at []int) {
	for k := range entries {
		n := wanted(&entries[k], folder)
		named := Imported{Name: n.About.Name, Kind: n.Kind}
		for _, f := range n.check().fields {
			out.Faults = append(out.Faults, portable.Fault{Place: fmt.Sprintf("entry %d", k+1), Why: strings.TrimPrefix(f.Location, "body.") + " " + f.Message})
		}
		if named.Duplicate = s.has(n.Kind, &n.content); !named.Duplicate {
			anew, at = append(anew, n), append(at, k)
		}
		out.Items = append(out.Items, named)
	}
	return anew, at
}

// wanted is an entry as an item. The content is the entry's own memory.
func wanted(e *portable.Entry, folder string) Wanted {
	n := Wanted{Kind: Kind(e.Kind), About: About{Name: e.Title, Issuer: e.Issuer, Account: e.Account, Folder: e.Folder, Tags: e.Tags, Notes: e.Notes, Icon: e.Icon}, Counter: int64(e.Counter)}
	if n.About.Name == "" {
		n.About.Name = e.Name()
	}
	if n.About.Folder == "" {
		n.About.Folder = folder
	}
	switch n.Kind {
	case Codes:
		for k, code := range e.Codes {
			n.content.Codes = append(n.content.Codes, code.Text.Expose())
			if code.Used {
				n.taken = append(n.taken, int32(k+1))
			}
		}
	case Secret:
		n.content.Text = e.Key.Expose()
	default:
		n.content.Key, n.content.Algorithm, n.content.Digits, n.content.Period = e.Key.Expose(), e.Scheme.Algorithm, e.Scheme.Digits, e.Scheme.Period
	}
	return n
}

// entry is an item for another program. The key is the content's own memory.
func entry(i *Item, c *content) portable.Entry {
	e := portable.Entry{
		Kind: otp.Kind(i.Kind), Title: i.About.Name, Issuer: i.About.Issuer, Account: i.About.Account, Folder: i.About.Folder, Tags: i.About.Tags, Notes: i.About.Notes,
		Icon: i.About.Icon, Counter: uint64(i.counter),
	}
	switch i.Kind {
	case Codes:
		for k, code := range c.Codes {
			e.Codes = append(e.Codes, portable.Code{Text: secret.Text(code), Used: slices.Contains(i.taken, int32(k+1))})
		}
	case Secret:
		e.Key = secret.Own(c.Text)
	default:
		e.Key, e.Scheme = secret.Own(c.Key), c.scheme()
	}
	return e
}

// seeds are digests of what a vault keeps, under a key that is nowhere else.
type seeds struct {
	key [32]byte
	all map[[32]byte]bool
}

// has reports whether a secret is there, and puts it there. One seed by which other codes are made is another: left out as a duplicate,
// nobody would get its codes.
func (s *seeds) has(k Kind, c *content) bool {
	m := hmac.New(sha256.New, s.key[:])
	fmt.Fprintf(m, "%s %q %d %d\n%q\n%s", k, c.Algorithm, c.Digits, c.Period, c.Codes, c.Text)
	m.Write(c.Key)
	digest := [32]byte(m.Sum(nil))
	there := s.all[digest]
	s.all[digest] = true
	return there
}

// seeds reads what a caller knows of a vault: of all else they learn nothing by guesses that would be duplicates. What does not open is
// left out: it is told of where it is used.
func (r *Room) seeds(ctx context.Context, c tenantdb.Caller) (*seeds, error) {
	s := &seeds{all: map[[32]byte]bool{}}
	rand.Read(s.key[:]) // never fails
	v, err := r.sight(ctx, c)
	if err != nil {
		return nil, err
	}
	for from := (ID{}); ; {
		var items []Item
		var knows map[ID]bool
		err := r.cfg.DB.Read(ctx, c, func(tx *tenantdb.ReadTx) (err error) {
			if items, err = readItems(ctx, tx, from, readChunk); err == nil {
				knows, err = r.knows(ctx, tx, v, items)
			}
			return err
		})
		if err != nil {
			return nil, err
		}
		for k := range items {
			if !knows[items[k].ID] {
				continue
			}
			held, err := r.reveal(ctx, c.Tenant(), &items[k])
			if errors.Is(err, errAltered) {
				continue
			}
			if err != nil {
				return nil, err
			}
			s.has(items[k].Kind, &held)
			held.clear()
		}
		if len(items) < readChunk {
			return s, nil
		}
		from = items[len(items)-1].ID
	}
}

// Export is a wish for secrets, to be written for another program.
type Export struct {
	Items      []ID
	Format     portable.Format
	Protection portable.Protection
	Reason     string
}

// exported is the entry of a secret that was shown to somebody.
const exported = "vault.exported"

// mostExported is how many items one export takes.
const mostExported = 1000

// mostNamed is how many items of an export its mail names.
const mostNamed = 20

// mailedItems are the items that a mail names, for its job: not their names, which are read when it is sent.
func mailedItems(items []ID) string {
	ids := []string{}
	for _, i := range items[:min(len(items), mostNamed)] {
		ids = append(ids, i.String())
	}
	return strings.Join(ids, " ")
}

// Export writes secrets for another program: for a person who proved themselves a moment ago and may have the seed of each, with
// a reason. It is in the log, item by item, and every owner is told, before it returns. What the log says to be taken out is what is
// written: each item once, or nothing where the format cannot hold one of them.
func (r *Room) Export(ctx context.Context, c tenantdb.Caller, in Export) (data []byte, items []ID, err error) {
	p, err := r.proved(c)
	if err != nil {
		return nil, nil, err
	}
	if err := in.check(); err != nil {
		return nil, nil, err
	}
	items = distinct(in.Items)
	var entries []portable.Entry
	defer func() {
		for k := range entries {
			entries[k].Key.Clear()
		}
	}()
	versions, w := map[ID]int64{}, &wrong{}
	for _, id := range items {
		e, version, err := r.exportable(ctx, c, id)
		if err != nil {
			return nil, nil, wrapped("Export", r.told(ctx, c.Tenant(), id, err))
		}
		entries, versions[id] = append(entries, e), version
		if err := portable.Holds(in.Format, e); err != nil {
			w.add(fmt.Sprintf("items[%d]", slices.Index(in.Items, id)), "%s: %v", e.Title, err)
		}
	}
	if err := w.problem("The format cannot hold all of these items, so nothing was exported. Leave out what is named, or choose another format."); err != nil {
		return nil, nil, err
	}
	in.Items = items
	data, err = r.write(ctx, c.Tenant(), in, entries)
	if errors.Is(err, portable.ErrWrite) {
		return nil, nil, problem.New(problem.Invalid, "Nothing was exported: %s.", unwritten(err))
	}
	if err == nil {
		err = r.cfg.Ring.Prepare(ctx, c.Tenant(), p.ID)
	}
	if err == nil {
		err = r.recordExport(ctx, c, p, in, versions)
	}
	if err != nil {
		clear(data)
		return nil, nil, wrapped("Export", err)
	}
	return data, items, nil
}

// check refuses what cannot be exported by anybody.
func (in *Export) check() error {
	w := &wrong{}
	if n := len([]rune(in.Reason)); n == 0 || n > mostReason {
		w.add("reason", "must have 1 to %d characters", mostReason)
	}
	if n := len(in.Items); n == 0 || n > mostExported {
		w.add("items", "must be 1 to %d", mostExported)
	}
	if !slices.Contains(portable.Written(), in.Format) {
		w.add("format", "is none of %v", portable.Written())
	}
	if err := in.Protection.Check(); err != nil {
		field := "clear"
		switch {
		case len(in.Protection.Recipients) > 0:
			field = "recipients"
		case !in.Protection.Passphrase.IsZero():
			field = "passphrase"
		}
		w.add(field, "%s", unwritten(err))
	}
	return w.problem("This cannot be exported.")
}

// unwritten is what was wrong with an export, without that nothing was written.
func unwritten(err error) string {
	return strings.TrimPrefix(err.Error(), portable.ErrWrite.Error()+": ")
}

// distinct are items without those that are there again.
func distinct(items []ID) (out []ID) {
	for _, id := range items {
		if !slices.Contains(out, id) {
			out = append(out, id)
		}
	}
	return out
}

// write writes an export, in its turn where that takes much memory.
func (r *Room) write(ctx context.Context, t tenantdb.TenantID, in Export, entries []portable.Entry) (data []byte, err error) {
	err = r.inTurn(ctx, t, !in.Protection.Passphrase.IsZero(), func() (err error) {
		data, err = portable.Write(in.Format, entries, in.Protection)
		return err
	})
	return data, err
}

// exportable is an item whose seed the caller may have now.
func (r *Room) exportable(ctx context.Context, c tenantdb.Caller, id ID) (e portable.Entry, version int64, err error) {
	s, err := r.memory.state(ctx, c.Tenant(), id, true)
	if err != nil {
		return e, 0, err
	}
	f, err := r.facts(ctx, c, s)
	if err == nil {
		err = judge(f, ForSeed)
	}
	if err != nil {
		return e, 0, err
	}
	i := *s.item
	if err := r.open(ctx, c.Tenant(), &i, i.Version); err != nil {
		return e, 0, err
	}
	held, err := r.reveal(ctx, c.Tenant(), &i)
	if err != nil {
		return e, 0, err
	}
	return entry(&i, &held), i.secretVersion, nil
}

// recordExport judges once more, with the head in hand, and writes what the log says.
func (r *Room) recordExport(ctx context.Context, c tenantdb.Caller, p tenantdb.Person, in Export, versions map[ID]int64) error {
	how := "clear"
	if !in.Protection.Clear {
		how = "age"
	}
	return r.cfg.DB.ChangeAll(ctx, c, func(tx *tenantdb.Tx) (all []audit.Event, err error) {
		if err := r.cfg.People.StillHolds(ctx, &tx.ReadTx, "vault:code"); err != nil {
			return nil, err
		}
		ids := map[string]string{"by": p.ID.String(), "items": fmt.Sprint(len(in.Items)), "at": r.now().Format("2006-01-02T15:04:05Z07:00")}
		for _, id := range in.Items {
			f := &facts{now: r.now(), asker: actorOf(c.Actor()), address: c.Address(), item: &Item{ID: id}}
			if err := f.anew(ctx, &tx.ReadTx); err != nil {
				return nil, err
			}
			if err := judge(f, ForSeed); err != nil {
				return nil, err
			}
			if f.item.secretVersion != versions[id] {
				return nil, problem.New(problem.Conflict, "An item changed meanwhile. Ask again.")
			}
			e := used(c, f, exported, field("format", string(in.Format)), field("protection", how), field("secret_version", fmt.Sprint(f.item.secretVersion)))
			e.Private = append(e.Private, field("reason", in.Reason))
			all = append(all, e)
		}
		ids["named"] = mailedItems(in.Items)
		return all, r.tellOwners(ctx, tx, mail.VaultExported, ids)
	})
}
