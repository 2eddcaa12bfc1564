package tenantdb

import (
	"context"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/avouch-dev/avouch/internal/problem"
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
	before, there, after, err := clocks(ctx, conn)
	if err != nil {
		return h, unreachable(err)
	}
	h.Skew = before.Add(after.Sub(before) / 2).Sub(there)
	var snapshot float64
	err = conn.QueryRow(ctx, healthSQL).Scan(&h.MonthsAhead, &h.InDefault, &snapshot, &h.Durable, &h.Version)
	if err != nil {
		return h, fmt.Errorf("tenantdb.Examine: %w", err)
	}
	h.OldSnapshot = time.Duration(snapshot * float64(time.Second))
	return h, nil
}

// MostSkew is how far a server's clock may be from the database's: entries carry the server's time.
const MostSkew = 500 * time.Millisecond

// ClockAgrees fails where this server's clock and the database's are further apart than MostSkew, however slow the answer was. What is
// ended for good when its time has come asks first, and so does what writes down from when that time counts: one clock that is wrong
// must not end anything.
func (db *DB) ClockAgrees(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, clockPatience)
	defer cancel()
	conn, release, err := db.acquire(ctx, db.pool)
	if err != nil {
		return unreachable(err)
	}
	defer release()
	before, there, after, err := clocks(ctx, conn)
	if err != nil {
		return unreachable(err)
	}
	apart := max(before.Sub(there), there.Sub(after))
	if apart > MostSkew {
		return problem.New(problem.Unavailable, "This server's clock and the database's are %s apart.", apart.Round(time.Millisecond))
	}
	return nil
}

const clockPatience = 5 * time.Second

// clocks is what time it is at the database, and here before and after it was asked.
func clocks(ctx context.Context, conn *pgxpool.Conn) (before, there, after time.Time, err error) {
	before = time.Now()
	err = conn.QueryRow(ctx, `SELECT clock_timestamp()`).Scan(&there)
	return before, there, time.Now(), err
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
