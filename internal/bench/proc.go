package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
)

// clockTicks is USER_HZ, which Linux fixes at 100 on all platforms that Go runs on.
const clockTicks = 100

// cpuSeconds is what a process has used so far, user and system time of all its threads.
func cpuSeconds(pid int) (float64, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, err
	}
	// The command's name may hold blanks; it ends at the last parenthesis.
	i := bytes.LastIndexByte(b, ')')
	if i < 0 {
		return 0, errors.New("stat without a command")
	}
	fields := strings.Fields(string(b[i+1:]))
	if len(fields) < 13 {
		return 0, errors.New("stat is short")
	}
	ticks := 0.0
	for _, f := range fields[11:13] { // utime, stime
		n, err := strconv.ParseUint(f, 10, 64)
		if err != nil {
			return 0, fmt.Errorf("stat: %w", err)
		}
		ticks += float64(n)
	}
	return ticks / clockTicks, nil
}

// memory is a process's resident set and its peak, in bytes.
func memory(pid int) (now, peak int64, err error) {
	err = status(pid, map[string]*int64{"VmRSS": &now, "VmHWM": &peak})
	return now, peak, err
}

// residentOf tells a process's own pages from those of files.
func residentOf(pid int) (r resident, err error) {
	err = status(pid, map[string]*int64{"RssAnon": &r.anon, "RssFile": &r.file})
	return r, err
}

// status reads fields of a process's status that are told in kB, as bytes.
func status(pid int, fields map[string]*int64) error {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return err
	}
	for line := range strings.Lines(string(b)) {
		name, rest, _ := strings.Cut(line, ":")
		to := fields[name]
		if to == nil {
			continue
		}
		kb, err := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(rest), " kB"), 10, 64)
		if err != nil {
			return fmt.Errorf("status %s: %w", name, err)
		}
		*to = kb << 10
	}
	return nil
}

// usage is the CPU time of several processes by name.
type usage map[string]float64

// sampleCPU reads all of them; one that is gone is an error, since its share would be missing.
func sampleCPU(pids map[string]int) (usage, error) {
	u := usage{}
	for name, pid := range pids {
		s, err := cpuSeconds(pid)
		if err != nil {
			return nil, fmt.Errorf("cpu time of %s: %w", name, err)
		}
		u[name] = s
	}
	return u, nil
}

// since is what was used after an earlier sample.
func (u usage) since(before usage) usage {
	d := usage{}
	for name, s := range u {
		d[name] = s - before[name]
	}
	return d
}
