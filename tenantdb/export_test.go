package tenantdb

import (
	"testing"

	"github.com/avouch-dev/avouch/internal/pgtest"
)

// MigratedTo is an empty database as a release with so many migrations left it.
func MigratedTo(t *testing.T, version int32) *pgtest.DB { return migratedTo(t, version) }

// KnownVersion is how many migrations there are.
func KnownVersion() (int32, error) { return knownVersion() }

// Tables is every row of every table.
func Tables(t *testing.T, pg *pgtest.DB) map[string][]map[string]any { return tables(t, pg) }

// Preserved says that what was there before is there after.
func Preserved(t *testing.T, before, after map[string][]map[string]any) { preserved(t, before, after) }
