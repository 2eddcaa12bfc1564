//go:build !linux

package main

import (
	"context"
	"errors"
	"os"
	"time"
)

var errLinux = errors.New("measurements are taken on Linux: the generator and the CPU times need epoll and /proc")

func drive(context.Context, load) (tally, error) { return tally{}, errLinux }

func fdatasyncs(*os.File, time.Duration) (*histogram, error) { return nil, errLinux }
