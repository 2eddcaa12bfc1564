package main

import (
	"bufio"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/avouch-dev/avouch/audit"
)

type auditCheck struct {
	Path    string `arg:"" optional:"" help:"A directory or .tar.gz that audit export wrote, a records.ndjson, or a proof. Without it, the database of AVOUCH_ADMIN_DATABASE_URL or AVOUCH_DATABASE_URL."`
	LogKey  string `placeholder:"KEY" env:"AVOUCH_LOG_KEY" help:"The log's verifier key that you have from elsewhere, or a file with it."`
	Earlier string `placeholder:"FILE" help:"A checkpoint that you have seen before: the export must go on from it."`
	keys    `embed:""`
}

// Help is shown under the usage.
func (*auditCheck) Help() string {
	return `A path is checked with no server, no database and no trust in who made it. Exit code 0 only if everything holds; 1 names the first bad entry, and why.

A server signs each export by a key made for it, which the export carries: that shows that it is whole, and that nothing in it was changed since, and not whose log it is. Keep what you export: what an older one holds is the beginning of a newer one. --log-key and --earlier hold an export against a key and a checkpoint that you have from elsewhere; a checkpoint is of use where one key signs several exports.

    avouch audit check export/ --log-key avouch.vkey
    AVOUCH_ADMIN_DATABASE_URL=postgres:///avouch avouch audit check`
}

// Run checks.
func (c *auditCheck) Run(ctx context.Context, g *globals) error {
	if c.Path == "" {
		if c.LogKey != "" || c.Earlier != "" {
			return misused("--log-key and --earlier are about an export: name its path")
		}
		return c.checkDatabase(ctx, g)
	}
	check, end, err := c.checkPath()
	if err != nil {
		return err
	}
	defer end()
	var found finding
	done := make(chan struct{})
	go func() {
		defer close(done)
		found, err = check()
	}()
	select {
	case <-done:
	case <-ctx.Done(): // a large export takes minutes, and Check knows no contexts
		return ctx.Err()
	}
	var fault *audit.Fault
	if err != nil && !errors.As(err, &fault) {
		return err
	}
	found.fault = fault
	if g.JSON {
		err = encode(g.Out, found)
	} else {
		err = found.print(g.page(), g.Now())
	}
	if err == nil && fault != nil {
		err = &exit{code: exitFalse}
	}
	return err
}

// finding is what a path was found to be.
type finding struct {
	kind   string // export, records, proof
	report audit.Report
	seq    audit.Seq // of a proof
	entry  json.RawMessage
	fault  *audit.Fault
}

// checkPath tells what the path is: how to check it, and what to do at the end. An error of the check that is no
// *audit.Fault is about reading.
func (c *auditCheck) checkPath() (check func() (finding, error), end func(), err error) {
	known, err := c.known()
	if err != nil {
		return nil, nil, err
	}
	info, err := os.Stat(c.Path)
	if err != nil {
		return nil, nil, lacks("there is nothing to check: %w", err)
	}
	if info.IsDir() {
		return func() (finding, error) {
			report, err := audit.CheckDir(c.Path, known)
			return finding{kind: "export", report: report}, err
		}, func() {}, nil
	}
	file, err := os.Open(c.Path)
	if err != nil {
		return nil, nil, lacks("it cannot be read: %w", err)
	}
	shut := func() { file.Close() }
	in := bufio.NewReaderSize(file, 64<<10)
	begins, _ := in.Peek(32) // a shorter file is judged by what there is of it
	switch begins := string(begins); {
	case strings.HasPrefix(begins, "\x1f\x8b"):
		dir, err := os.MkdirTemp("", "avouch-check-*")
		if err != nil {
			shut()
			return nil, nil, lacks("there is no place to unpack to: %w", err)
		}
		return func() (finding, error) { return c.checkArchive(in, info.Size(), dir, known) }, func() { shut(); os.RemoveAll(dir) }, nil
	case strings.HasPrefix(begins, "c2sp.org/tlog-proof"):
		return func() (finding, error) { return c.checkProof(in, known) }, shut, nil
	case strings.HasPrefix(begins, "{") || begins == "":
		return func() (finding, error) { return c.checkRecords(in) }, shut, nil
	}
	shut()
	return nil, nil, misused("%s is no export, no records and no proof: name the directory that audit export wrote, or one of those files", c.Path)
}

// known reads what the caller knows of the log from elsewhere.
func (c *auditCheck) known() (audit.Known, error) {
	known := audit.Known{Key: c.LogKey}
	if b, err := os.ReadFile(c.LogKey); err == nil {
		known.Key = strings.TrimSpace(string(b))
	} else if c.LogKey != "" && !strings.Contains(c.LogKey, "+") {
		return known, lacks("--log-key is neither a verifier key (name+hash+key) nor a file that can be read: %w", err)
	}
	if c.Earlier != "" {
		b, err := os.ReadFile(c.Earlier)
		if err != nil {
			return known, lacks("the earlier checkpoint cannot be read: %w", err)
		}
		known.Earlier = b
	}
	return known, nil
}

func (c *auditCheck) checkProof(file io.Reader, known audit.Known) (finding, error) {
	found := finding{kind: "proof"}
	if known.Key == "" || known.Earlier != nil {
		return found, misused("a proof is checked with the log's key: give --log-key, and not --earlier")
	}
	b, err := io.ReadAll(io.LimitReader(file, audit.MaxProof+1))
	if err != nil {
		return found, lacks("the proof cannot be read: %w", err)
	}
	proven, err := audit.VerifyProof(b, known.Key)
	if err != nil {
		return found, whole("proof", err)
	}
	found.seq = proven.Seq
	found.report = audit.Report{Origin: proven.Checkpoint.Origin, Size: proven.Checkpoint.Size, Root: proven.Checkpoint.Root, Key: known.Key, KeyKnown: true}
	entry, err := audit.Decode(proven.Entry)
	if err != nil {
		return found, &audit.Fault{Index: proven.Seq, Part: "proof", Reason: err.Error()}
	}
	found.report.Log = entry.Log
	found.report.First, found.report.Last = entry.Time, entry.Time
	found.entry, err = json.Marshal(entry)
	return found, err
}

func (c *auditCheck) checkRecords(file io.Reader) (finding, error) {
	found := finding{kind: "records"}
	if c.LogKey != "" || c.Earlier != "" {
		return found, misused("records alone have no signature to hold against --log-key or --earlier: check the whole export")
	}
	end, err := audit.CheckRecords(file, audit.State{})
	found.report = audit.Report{Log: end.Log, Size: end.Tree.Size(), Checked: end.Tree.Size(), Root: end.Tree.Root(), Link: end.Link}
	return found, whole("records", err)
}

// checkArchive unpacks an export into a directory, and checks it there. What it may unpack to is bounded by what it is.
func (c *auditCheck) checkArchive(file io.Reader, size int64, dir string, known audit.Known) (finding, error) {
	found := finding{kind: "export"}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return found, lacks("there is no place to unpack to: %w", err)
	}
	defer root.Close()
	if err := unpack(file, root, 100*size+16<<20); err != nil {
		return found, whole(filepath.Base(c.Path), err)
	}
	found.report, err = audit.CheckDir(dir, known)
	return found, err
}

// whole makes a fault of what is no fault yet: something does not hold, and no entry can be blamed for it. What is about
// this machine (a full disk) stays what it is.
func whole(part string, err error) error {
	var fault *audit.Fault
	var machine *exit
	if err == nil || errors.As(err, &fault) || errors.As(err, &machine) {
		return err
	}
	return &audit.Fault{Index: audit.Whole, Part: part, Reason: err.Error()}
}

// MarshalJSON is the finding for programs: first_bad is -1 if no single entry can be blamed.
func (f finding) MarshalJSON() ([]byte, error) {
	b, err := json.Marshal(f.report)
	if err != nil {
		return nil, err
	}
	out := map[string]any{}
	if err := json.Unmarshal(b, &out); err != nil {
		return nil, err
	}
	out["ok"], out["kind"] = f.fault == nil, f.kind
	if f.kind == "proof" {
		for _, name := range []string{"checked", "link", "earlier_held", "disclosed"} {
			delete(out, name)
		}
		out["seq"], out["entry"] = f.seq, f.entry
	}
	if f.fault != nil {
		out["first_bad"], out["part"], out["reason"] = f.fault.Index, f.fault.Part, f.fault.Reason
	}
	return json.Marshal(out)
}

func (f finding) print(p page, now time.Time) error {
	r := &f.report
	verdict, tint := "HOLDS", good
	if f.fault != nil {
		verdict, tint = "DOES NOT HOLD", bad
	}
	if _, err := fmt.Fprintf(p.to, "%s  %s\n", p.paint(verdict, tint), f.sentence()); err != nil {
		return err
	}
	all := []detail{{"log", cell{text: r.Origin}}}
	if r.Origin == "" && !r.Log.IsZero() {
		all = []detail{{"log", cell{text: r.Log.String()}}}
	}
	if f.fault == nil {
		all = append(all, f.good(now)...)
	}
	if err := writeDetails(p, "  ", all); err != nil || f.entry == nil {
		return err
	}
	e, err := readEntry(f.entry)
	if err != nil {
		return err
	}
	fmt.Fprint(p.to, "  ")
	return e.details(p, "  ", instant(e.Time, now))
}

func (f finding) sentence() string {
	r := &f.report
	switch {
	case f.fault != nil && f.fault.Index == audit.Whole:
		return fmt.Sprintf("No single entry can be blamed: %s (%s).", f.fault.Reason, f.fault.Part)
	case f.fault != nil:
		return fmt.Sprintf("The first bad entry is %d: %s (%s). %s good.", f.fault.Index, f.fault.Reason, f.fault.Part, before(int64(f.fault.Index)))
	case f.kind == "proof":
		return fmt.Sprintf("Entry %d is in the log of %s.", f.seq, plural(r.Size, "entry", "entries"))
	case f.kind == "records":
		return fmt.Sprintf("%s follow from one another. That they are all that the log had, only its checkpoint shows.", plural(r.Size, "record", "records"))
	}
	return fmt.Sprintf("%s, none missing, none changed.", plural(r.Size, "entry", "entries"))
}

func before(n int64) string {
	if n == 1 {
		return "The one before it is"
	}
	return fmt.Sprintf("The %s before it are", grouped(n))
}

func (f finding) good(now time.Time) []detail {
	r := &f.report
	key := cell{"a key that came with the export and nobody vouches for: see --log-key", warn}
	if r.KeyKnown {
		key = cell{"the key that you gave", good}
	}
	all := []detail{{"root", cell{text: hex.EncodeToString(r.Root[:])}}}
	if f.kind != "proof" {
		all = []detail{{"from", cell{text: instant(r.First, now)}}, {"to", cell{text: instant(r.Last, now)}}, all[0], {"chain", cell{text: hex.EncodeToString(r.Link[:])}}}
	}
	if f.kind != "records" {
		all = append(all, detail{"signed with", key}, detail{"its key", cell{text: r.Key}})
	}
	if r.EarlierHeld {
		all = append(all, detail{"earlier", cell{"it goes on from the checkpoint that you gave", good}})
	}
	if r.Disclosed > 0 {
		all = append(all, detail{"disclosed", cell{text: plural(int64(r.Disclosed), "group of private fields", "groups of private fields") + ", as committed to"}})
	}
	return all
}
