package trail

import (
	"archive/tar"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"net/http"
	"os"
	"slices"
	"time"

	"github.com/avouch-dev/avouch/audit"
	"github.com/avouch-dev/avouch/internal/web"
	"github.com/avouch-dev/avouch/keyring"
	"github.com/avouch-dev/avouch/tenantdb"
)

// record is the row as package audit knows it. Its hashes must have their length.
func (v *row) record() audit.Record {
	r := audit.Record{Seq: audit.Seq(v.seq), Entry: v.body}
	copy(r.Prev[:], v.prev)
	copy(r.Leaf[:], v.leaf)
	return r
}

// ExportOptions say how to export.
type ExportOptions struct {
	// Disclose opens private fields in the export, so that it may hold personal data. Those of erased subjects stay closed.
	Disclose bool
}

// exportChunk is how many entries one transaction of an export reads.
const exportChunk = 1000

// Export writes the caller's log, from its first entry to the present one, as a C2SP tlog-tiles directory. It reads in
// short transactions while others append, and checks each record on the way: a log that does not verify is not exported.
// That the log is exported is recorded first, so the export holds the entry of itself.
func (r *Room) Export(ctx context.Context, c tenantdb.Caller, create audit.Create, o ExportOptions) (audit.Checkpoint, error) {
	if err := allowRead(c); err != nil {
		return audit.Checkpoint{}, err
	}
	public := []audit.Field{{Name: "disclosed", Value: fmt.Sprint(o.Disclose)}}
	if _, err := r.record(ctx, c, sawExport, public, ""); err != nil {
		return audit.Checkpoint{}, err
	}
	h, err := r.head(ctx, c)
	if err != nil {
		return audit.Checkpoint{}, fmt.Errorf("trail.Export: %w", err)
	}
	x := export{room: r, caller: c, head: h, disclose: o.Disclose}
	seal := func(size int64, root [32]byte) ([]byte, string, error) { return x.seal(ctx, size, root) }
	checkpoint, err := audit.WriteExport(create, x.records(ctx), seal)
	if err != nil {
		return audit.Checkpoint{}, fmt.Errorf("trail.Export: %w", err)
	}
	return checkpoint, nil
}

type export struct {
	room     *Room
	caller   tenantdb.Caller
	head     head
	disclose bool
	link     [32]byte
}

func (x *export) records(ctx context.Context) iter.Seq2[audit.Record, error] {
	return func(yield func(audit.Record, error) bool) {
		for from := int64(0); from < x.head.size; from += exportChunk {
			var rows []row
			to := min(from+exportChunk, x.head.size)
			err := x.room.cfg.DB.Read(ctx, x.caller, func(tx *tenantdb.ReadTx) (err error) {
				rows, err = readRange(ctx, tx, x.caller.Tenant(), from, to)
				return err
			})
			if err == nil && len(rows) == 0 {
				err = fmt.Errorf("%w: entry %d is missing", errBroken, from)
			}
			if err != nil {
				yield(audit.Record{}, err)
				return
			}
			for _, v := range rows {
				rec, err := x.record(ctx, v)
				x.link = rec.Link()
				if !yield(rec, err) || err != nil {
					return
				}
			}
		}
	}
}

func (x *export) record(ctx context.Context, v row) (audit.Record, error) {
	rec := v.record()
	if len(v.leaf) != 32 || len(v.prev) != 32 {
		return rec, fmt.Errorf("%w: a hash of entry %d is not 32 bytes long", errBroken, v.seq)
	}
	if !x.disclose {
		return rec, nil
	}
	_, e := decode(v)
	c := private(&e)
	if c == nil {
		return rec, nil
	}
	plain, err := open(ctx, x.room.cfg.Sealer, x.caller.Tenant(), &e, v.sealed)
	if errors.Is(err, keyring.ErrDestroyed) {
		return rec, nil
	}
	if err != nil {
		return rec, fmt.Errorf("private fields of entry %d: %w", v.seq, err)
	}
	d, err := audit.Disclose(*c, plain)
	rec.Disclosed = []audit.Disclosure{d}
	return rec, err
}

func (x *export) seal(ctx context.Context, size int64, root [32]byte) ([]byte, string, error) {
	if size != x.head.size || string(x.link[:]) != string(x.head.chain) {
		return nil, "", fmt.Errorf("%w: the head says %d entries, and the rows lead elsewhere", errBroken, x.head.size)
	}
	c := audit.Checkpoint{Origin: audit.Origin(x.room.cfg.Host, x.head.log), Size: size, Root: root}
	signer, vkey, err := x.room.cfg.Sign(ctx, c.Origin)
	if err != nil {
		return nil, "", err
	}
	signed, err := c.Sign(signer)
	return signed, vkey, err
}

// sendExport answers with an export as a compressed archive. It is put together on disk first: an archive says the size
// of a file before the file, and an export that fails halfway must not look like one.
func (r *Room) sendExport(w http.ResponseWriter, req *http.Request, c tenantdb.Caller, _ web.RequestMeta) error {
	if err := allowRead(c); err != nil {
		return err
	}
	release, err := r.exports.take(c.Tenant())
	if err != nil {
		return err
	}
	defer release()
	dir, err := os.MkdirTemp(r.cfg.TempDir, "avouch-export-*") // mode 0700
	if err != nil {
		return fmt.Errorf("trail.sendExport: %w", err)
	}
	defer os.RemoveAll(dir)
	root, err := os.OpenRoot(dir)
	if err != nil {
		return fmt.Errorf("trail.sendExport: %w", err)
	}
	defer root.Close()
	if _, err := r.Export(req.Context(), c, audit.Into(root), ExportOptions{}); err != nil {
		return err
	}
	w.Header().Set("Content-Type", "application/gzip")
	w.Header().Set("Content-Disposition", `attachment; filename="audit-log.tar.gz"`)
	if err := archive(patient{w, http.NewResponseController(w), r.cfg.Streams.Patience}, root.FS(), r.cfg.Now()); err != nil {
		return fmt.Errorf("trail.sendExport: %w", err)
	}
	return nil
}

// archive writes the files of a folder as a compressed archive, in the order of their names.
func archive(w io.Writer, files fs.FS, at time.Time) error {
	var names []string
	err := fs.WalkDir(files, ".", func(name string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() {
			names = append(names, name)
		}
		return err
	})
	if err != nil {
		return err
	}
	slices.Sort(names)
	zipped := gzip.NewWriter(w)
	out := tar.NewWriter(zipped)
	for _, name := range names {
		if err := pack(out, files, name, at); err != nil {
			return err
		}
	}
	if err := out.Close(); err != nil {
		return err
	}
	return zipped.Close()
}

func pack(out *tar.Writer, files fs.FS, name string, at time.Time) error {
	f, err := files.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	head := &tar.Header{Typeflag: tar.TypeReg, Name: name, Size: info.Size(), Mode: 0o600, ModTime: at.Truncate(time.Second)}
	if err := out.WriteHeader(head); err != nil {
		return err
	}
	_, err = io.Copy(out, f)
	return err
}

// patient gives each write its own deadline: a long answer is fine, a reader that stands still is not.
type patient struct {
	http.ResponseWriter
	rc       *http.ResponseController
	patience time.Duration
}

// Write writes within the deadline.
func (p patient) Write(b []byte) (int, error) {
	_ = p.rc.SetWriteDeadline(time.Now().Add(p.patience)) // a server without deadlines has none to set
	return p.ResponseWriter.Write(b)
}
