package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// archived makes a .tar.gz of headers, each with its content.
func archived(t testing.TB, heads []tar.Header, content ...string) []byte {
	t.Helper()
	var b bytes.Buffer
	zipped := gzip.NewWriter(&b)
	out := tar.NewWriter(zipped)
	for i, h := range heads {
		if h.Typeflag == 0 {
			h.Typeflag = tar.TypeReg
		}
		text := ""
		if i < len(content) {
			text = content[i]
		}
		h.Size, h.Mode = int64(len(text)), 0o600
		if err := out.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		if _, err := out.Write([]byte(text)); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(out.Close(), zipped.Close()); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// goodArchive is that of an export which holds.
func goodArchive(t testing.TB) []byte {
	t.Helper()
	dir := t.TempDir()
	if err := writeExports(dir); err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	zipped := gzip.NewWriter(&b)
	out := tar.NewWriter(zipped)
	if err := errors.Join(out.AddFS(os.DirFS(filepath.Join(dir, "log"))), out.Close(), zipped.Close()); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// holes is the archive of a sparse file: a few hundred bytes that say to be a gigabyte of nothing (GNU's format 1.0). The
// writer of package tar makes none, so its records go into a header of another name, of the same length.
func holes(t testing.TB) []byte {
	t.Helper()
	var b bytes.Buffer
	out := tar.NewWriter(&b)
	about := map[string]string{"XXX.sparse.major": "1", "XXX.sparse.minor": "0", "XXX.sparse.name": "checkpoint", "XXX.sparse.realsize": "1073741824"}
	table := "1\n1073741824\n0\n" // one piece, of no bytes, at the end
	table += strings.Repeat("\x00", 512-len(table))
	err := out.WriteHeader(&tar.Header{Name: "checkpoint", Typeflag: tar.TypeReg, Mode: 0o600, Size: int64(len(table)), Format: tar.FormatPAX, PAXRecords: about})
	if _, e := out.Write([]byte(table)); err != nil || e != nil {
		t.Fatal(err, e)
	}
	var z bytes.Buffer
	zipped := gzip.NewWriter(&z)
	_, err = zipped.Write(bytes.ReplaceAll(b.Bytes(), []byte("XXX.sparse."), []byte("GNU.sparse.")))
	if err := errors.Join(err, zipped.Close()); err != nil {
		t.Fatal(err)
	}
	return z.Bytes()
}

// unpacked unpacks an archive and lists what it made, with its size. Whatever the archive holds, it is judged and not this
// machine; nothing lies outside; all of it is plain files of an export's names; and there is no more of it than most.
func unpacked(t testing.TB, archive []byte, most int64) (made map[string]int64, verdict error) {
	t.Helper()
	above := t.TempDir()
	dir := filepath.Join(above, "in")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	if verdict = unpack(bytes.NewReader(archive), root, most); verdict != nil && !errors.Is(verdict, errArchive) {
		t.Errorf("the archive is not blamed: %v", verdict)
	}
	if names, err := os.ReadDir(above); err != nil || len(names) != 1 {
		t.Fatalf("there is something beside the directory: %v %v", names, err)
	}
	made = map[string]int64{}
	var sum int64
	err = fs.WalkDir(root.FS(), ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		if !info.Mode().IsRegular() || info.Mode().Perm() != 0o600 {
			t.Errorf("%q has mode %s", name, info.Mode())
		}
		if top, _, below := strings.Cut(name, "/"); below != (top == "tile") || strings.Contains(name, "..") {
			t.Errorf("%q is no name of an export", name)
		}
		made[name] = info.Size()
		sum += info.Size()
		return nil
	})
	if err != nil || sum > most {
		t.Errorf("%d bytes were unpacked where %d are the most (%v)", sum, most, err)
	}
	return made, verdict
}

// TestUnpack: what a hostile archive can hold is refused, and blamed on the archive.
func TestUnpack(t *testing.T) {
	t.Parallel()
	good := goodArchive(t)
	made, err := unpacked(t, good, 16<<20)
	if err != nil || len(made) < 5 || made["checkpoint"] == 0 || made["tile/entries/001.p/44"] == 0 {
		t.Errorf("a good export: %v %v", made, err)
	}
	for name, archive := range map[string][]byte{
		"above":           archived(t, []tar.Header{{Name: "../checkpoint"}}),
		"above, within":   archived(t, []tar.Header{{Name: "tile/0/../../../checkpoint"}}),
		"absolute":        archived(t, []tar.Header{{Name: "/checkpoint"}}),
		"a link":          archived(t, []tar.Header{{Name: "checkpoint", Typeflag: tar.TypeSymlink, Linkname: "/etc/passwd"}}),
		"a link as tile":  archived(t, []tar.Header{{Name: "tile", Typeflag: tar.TypeSymlink, Linkname: ".."}, {Name: "tile/0/000"}}),
		"another's name":  archived(t, []tar.Header{{Name: "notes.txt"}}),
		"twice":           archived(t, []tar.Header{{Name: "checkpoint"}, {Name: "./checkpoint"}}),
		"a file's inside": archived(t, []tar.Header{{Name: "tile/0/0"}, {Name: "tile/0/0/0"}}),
		"a long name":     archived(t, []tar.Header{{Name: "tile/0/" + strings.Repeat("0", 300)}}),
		"deep":            archived(t, []tar.Header{{Name: "tile/0/" + strings.Repeat("x000/", 2000) + "000"}}),
		"truncated":       good[:len(good)/2],
		"no gzip":         []byte("checkpoint"),
		"too much":        archived(t, []tar.Header{{Name: "records.ndjson"}}, strings.Repeat("0", 2<<20)),
		"holes":           holes(t),
	} {
		if _, err := unpacked(t, archive, 1<<20); err == nil {
			t.Errorf("%s: unpacked", name)
		}
	}
}

// FuzzUnpack holds the same of any archive, and of any tar inside gzip, and that it comes out the same each time.
func FuzzUnpack(f *testing.F) {
	good := goodArchive(f)
	for _, archive := range [][]byte{
		good, good[:len(good)/2], good[:len(good)-4], holes(f), archived(f, nil),
		archived(f, []tar.Header{{Name: "../checkpoint"}, {Name: "/checkpoint"}}),
		archived(f, []tar.Header{{Name: "tile/0/000"}, {Name: "tile/entries/x001/234.p/7"}}, "a", "b"),
		archived(f, []tar.Header{{Name: "records.ndjson"}}, strings.Repeat("0", 2<<20)),
	} {
		f.Add(archive, false)
		if zipped, err := gzip.NewReader(bytes.NewReader(archive)); err == nil {
			var plain bytes.Buffer
			_, _ = plain.ReadFrom(zipped) // of what was cut short, what there is
			if plain.Len() < 64<<10 {
				f.Add(plain.Bytes(), true) // so that what is tried gets behind gzip's checksum
			}
		}
	}
	f.Fuzz(func(t *testing.T, archive []byte, zip bool) {
		if zip {
			var z bytes.Buffer
			zipped, err := gzip.NewWriterLevel(&z, gzip.NoCompression)
			if err != nil {
				t.Fatal(err)
			}
			_, err = zipped.Write(archive)
			if err := errors.Join(err, zipped.Close()); err != nil {
				t.Fatal(err)
			}
			archive = z.Bytes()
		}
		made, err := unpacked(t, archive, 1<<20)
		if again, e := unpacked(t, archive, 1<<20); len(again) != len(made) || (e == nil) != (err == nil) {
			t.Errorf("unpacked again it is another: %v, then %v", err, e)
		}
	})
}
