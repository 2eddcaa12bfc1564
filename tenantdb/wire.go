package tenantdb

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgtype"
)

// array is a one-dimensional PostgreSQL array in the binary format, built element by element: the batch has a dozen of
// them with hundreds of elements, and pgx's general encoder takes longer over them than the database over the insert.
type array struct {
	buf []byte
	n   uint32
}

const arrayHeader = 20 // dimensions, has-null flag, element type, length, lower bound: four bytes each

func (a *array) reset(element uint32) {
	a.n = 0
	a.buf = append(a.buf[:0], make([]byte, arrayHeader)...)
	binary.BigEndian.PutUint32(a.buf[0:], 1)
	binary.BigEndian.PutUint32(a.buf[8:], element)
	binary.BigEndian.PutUint32(a.buf[16:], 1)
}

func (a *array) bytes(b []byte) {
	a.n++
	a.buf = binary.BigEndian.AppendUint32(a.buf, uint32(len(b)))
	a.buf = append(a.buf, b...)
}

func (a *array) text(s string) {
	a.n++
	a.buf = binary.BigEndian.AppendUint32(a.buf, uint32(len(s)))
	a.buf = append(a.buf, s...)
}

func (a *array) bool(v bool) {
	a.n++
	a.buf = binary.BigEndian.AppendUint32(a.buf, 1)
	if v {
		a.buf = append(a.buf, 1)
	} else {
		a.buf = append(a.buf, 0)
	}
}

func (a *array) int32(v int32) {
	a.n++
	a.buf = binary.BigEndian.AppendUint32(a.buf, 4)
	a.buf = binary.BigEndian.AppendUint32(a.buf, uint32(v))
}

func (a *array) int64(v int64) {
	a.n++
	a.buf = binary.BigEndian.AppendUint32(a.buf, 8)
	a.buf = binary.BigEndian.AppendUint64(a.buf, uint64(v))
}

func (a *array) param() []byte {
	binary.BigEndian.PutUint32(a.buf[12:], a.n)
	return a.buf
}

// batchParams are the parameters of appendSQL in their order, kept between batches.
type batchParams struct {
	nonce  [8]byte
	arrays [19]array
	out    [20][]byte
}

// The arrays, by what they hold; the order is that of the parameters from $2 on.
const (
	pTenant = iota
	pMoves
	pItem
	pIndex
	pEpoch
	pEntry
	pRequest
	pBody
	pSealed
	pAbout
	pPerson
	pSpendItem
	pSpendCounter
	pSpendAmount
	pCounterTenant
	pCounterSubject
	pCounterPeriod
	pCounterWindow
	pCounterLimit
)

func (p *batchParams) reset(nonce int64) {
	binary.BigEndian.PutUint64(p.nonce[:], uint64(nonce))
	for i, element := range [19]uint32{
		pgtype.UUIDOID, pgtype.BoolOID, pgtype.Int4OID, pgtype.Int4OID, pgtype.Int8OID, pgtype.UUIDOID, pgtype.UUIDOID,
		pgtype.ByteaOID, pgtype.ByteaOID, pgtype.UUIDOID, pgtype.UUIDOID, pgtype.Int4OID, pgtype.Int4OID, pgtype.Int8OID, pgtype.Int4OID,
		pgtype.TextOID, pgtype.Int8OID, pgtype.Int8OID, pgtype.Int8OID,
	} {
		p.arrays[i].reset(element)
	}
}

func (p *batchParams) values() [][]byte {
	p.out[0] = p.nonce[:]
	for i := range p.arrays {
		p.out[i+1] = p.arrays[i].param()
	}
	return p.out[:]
}

// batchRow is a row of the batch's answer: a tenant's head as it was locked, or a counter as it was.
type batchRow struct {
	counter bool
	index   int   // of the tenant or counter, from 0
	a, b, n int64 // tenant: epoch, size before, entries written; counter: used before, limit, period
}

// errAnswer is an answer that the batch cannot have got from the statement it sent.
var errAnswer = errors.New("answer to another statement")

var binaryFormat = []int16{pgtype.BinaryFormatCode}

// readBatch runs the prepared statement and reads its rows. It returns only after the connection is ready again, which
// outside a transaction means that the commit is durable.
func readBatch(rr *pgconn.ResultReader, nonce int64, rows []batchRow) ([]batchRow, error) {
	rows = rows[:0]
	var bad error
	for rr.NextRow() {
		v := rr.Values()
		if len(v) != 6 || len(v[0]) != 8 || len(v[1]) != 4 || len(v[2]) != 4 || len(v[3]) != 8 || len(v[4]) != 8 || len(v[5]) != 8 ||
			int64(binary.BigEndian.Uint64(v[0])) != nonce {
			bad = errAnswer
			continue
		}
		rows = append(rows, batchRow{
			counter: binary.BigEndian.Uint32(v[1]) == 1, index: int(binary.BigEndian.Uint32(v[2])) - 1,
			a: int64(binary.BigEndian.Uint64(v[3])), b: int64(binary.BigEndian.Uint64(v[4])), n: int64(binary.BigEndian.Uint64(v[5])),
		})
	}
	if _, err := rr.Close(); err != nil {
		return rows, fmt.Errorf("tenantdb: append: %w", err)
	}
	return rows, bad
}
