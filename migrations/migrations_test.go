package migrations

import (
	"io/fs"
	"os"
	"slices"
	"testing"
)

// The migrations are embedded, all of them, and nothing else: schema.sql would be taken for another.
func TestFilesAreTheMigrations(t *testing.T) {
	t.Parallel()
	here, err := fs.Glob(os.DirFS("."), "*.sql")
	if err != nil {
		t.Fatal(err)
	}
	embedded, err := fs.Glob(Files, "*")
	if err != nil {
		t.Fatal(err)
	}
	if want := slices.DeleteFunc(here, func(name string) bool { return name == "schema.sql" }); len(want) == 0 || !slices.Equal(embedded, want) {
		t.Errorf("embedded are %v, want %v", embedded, want)
	}
}
