package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/alecthomas/kong"
)

// root is the whole command line.
type root struct {
	Globals globals `embed:""`

	Verify versionless `kong:"-"`
}
