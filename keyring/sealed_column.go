package keyring

import "encoding/binary"

// SealedColumn says where a room keeps values that Seal made, so that the rotation of an organisation's key finds them. A room with
// such a column hands one out of its sql.go, and server passes it on.
type SealedColumn struct {
	Table, Column string // in the schema avouch; the table's primary key begins with tenant_id
	Key           []KeyPart
	// Item is what Seal was given as item for the row of this key: the wrap is bound to it.
	Item func(key []string) string
}

// KeyPart is a column of a primary key.
type KeyPart struct{ Column, Type string }

// Name names the column, in logs and for people.
func (c SealedColumn) Name() string { return c.Table + "." + c.Column }

// SealedPrefix is what everything begins with that Seal makes under a version of an organisation's key, and nothing else does. Whoever
// has rows to look through compares it with their first bytes.
func SealedPrefix(version uint32) []byte {
	b := append([]byte(envelopeMagic+wrappedMagic), byte(len(UseWrap)))
	return binary.BigEndian.AppendUint32(append(b, UseWrap...), version)
}
