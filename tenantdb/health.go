package tenantdb

import (
	"context"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
)

// Health is what the door finds of its database.
type Health struct {
	Skew        time.Duration // this server's clock less the database's
	MonthsAhead int           // partitions of the log for months to come
	InDefault   bool          // entries lie in the default partition: a month was missing when they came
	OldSnapshot time.Duration // the oldest snapshot that is open: old ones bloat the heads
	Durable     bool          // fsync, full_page_writes and synchronous_commit are on
	Version     string
}

// Examine asks the database about itself.
func (db *DB) Examine(ctx context.Context) (h Health, err error) {
	conn, release, err := db.acquire(ctx, db.pool)
	if err != nil {
		return h, unreachable(err)
	}
	defer release()
	before := time.Now()
	var there time.Time
	if err := conn.QueryRow(ctx, `SELECT clock_timestamp()`).Scan(&there); err != nil {
		return h, unreachable(err)
	}
	after := time.Now()
	h.Skew = before.Add(after.Sub(before) / 2).Sub(there)
	var snapshot float64
	err = conn.QueryRow(ctx, healthSQL).Scan(&h.MonthsAhead, &h.InDefault, &snapshot, &h.Durable, &h.Version)
	if err != nil {
		return h, fmt.Errorf("tenantdb.Examine: %w", err)
	}
	h.OldSnapshot = time.Duration(snapshot * float64(time.Second))
	return h, nil
}

// EnsurePartitions asks for the log's partitions of the months to come.
func (db *DB) EnsurePartitions(ctx context.Context) error {
	conn, release, err := db.acquire(ctx, db.pool)
	if err != nil {
		return unreachable(err)
	}
	defer release()
	if _, err := conn.Exec(ctx, "SELECT avouch.ensure_partitions()"); err != nil {
		return fmt.Errorf("tenantdb.EnsurePartitions: %w", err)
	}
	return nil
}

// MoveEpochs gives every tenant but the platform another epoch: after a change of the platform's own that alters
// everyone's decisions, and before it is acknowledged.
func (db *DB) MoveEpochs(ctx context.Context) error {
	conn, release, err := db.acquire(ctx, db.waiting)
	if err != nil {
		return unreachable(err)
	}
	defer release()
	if _, err := conn.Exec(ctx, moveEpochsSQL, Platform); err != nil {
		return fmt.Errorf("tenantdb.MoveEpochs: %w", err)
	}
	return nil
}

// DataDirectory is where the database lies on its machine, as an administrator may ask.
func DataDirectory(ctx context.Context, adminURL string) (dir string, err error) {
	conn, err := pgx.Connect(ctx, adminURL)
	if err != nil {
		return "", fmt.Errorf("tenantdb.DataDirectory: %w", err)
	}
	defer conn.Close(context.WithoutCancel(ctx))
	var pid int
	if err := conn.QueryRow(ctx, `SELECT current_setting('data_directory'), pg_backend_pid()`).Scan(&dir, &pid); err != nil {
		return "", fmt.Errorf("tenantdb.DataDirectory: %w", err)
	}
	if strings.HasPrefix(dir, "/proc/self/") { // given as a descriptor that only the server has; it works in the directory
		// Followed while the connection is open: its process ends with it.
		if dir, err = os.Readlink(fmt.Sprintf("/proc/%d/cwd", pid)); err != nil {
			return "", fmt.Errorf("tenantdb.DataDirectory: %w", err)
		}
	}
	return dir, nil
}
