package main

import (
	"errors"
	"fmt"
	"regexp"
	"strings"
)

// origin knows which settings were made in the file of --config, so that who reads what is wrong with one finds it
// there. The zero origin knows no file.
type origin struct {
	path  string
	text  string
	file  fileConfig
	given func(flag string) bool // on the command line, where flags win over the file
	set   map[string]string      // --set on the command line
}

// blame turns an error about a setting, as its flag is written, into one about the place in the file where it was
// made, if it was made there.
func (o *origin) blame(err error) error {
	var u *usageError
	if o.path == "" || !errors.As(err, &u) || u.about == "" {
		return err
	}
	key := o.key(u.about)
	if key == nil {
		return err
	}
	return aboutf(o.at(key...), "%s", strings.TrimPrefix(u.message, u.about))
}

// key is the path to a setting in the file; nil if it was not made there.
func (o *origin) key(about string) []string {
	flag, name, _ := strings.Cut(strings.TrimPrefix(about, "--"), " ")
	switch flag {
	case "set":
		_, there := o.file.Set[name]
		_, given := o.set[name]
		switch {
		case there && !given:
			return []string{"set", name}
		case name == "" && len(o.file.Set) > 0 && len(o.set) == 0:
			return []string{"set"}
		}
		return nil
	case "listener":
		if len(o.file.Listeners) == 0 || o.given("listener") || o.given("listen") {
			return nil
		}
		return []string{"listeners", name}
	}
	if o.given(flag) || lineOf(o.text, flag) == 0 {
		return nil
	}
	return []string{flag}
}

// at names a key's place in the file, and the key.
func (o *origin) at(key ...string) string {
	return o.line(key...) + ": " + strings.TrimSpace(strings.Join(key, " "))
}

// line names the file, and the line of a key if that is found.
func (o *origin) line(key ...string) string {
	if n := lineOf(o.text, key...); n > 0 {
		return fmt.Sprintf("--config %s, line %d", o.path, n)
	}
	return "--config " + o.path
}

// lineOf finds the line of a key, or of a key below another, in YAML or JSON as people write it; of a listener that of
// its name. 0: not found.
func lineOf(text string, key ...string) int {
	outer := regexp.MustCompile(`^\s*[{,]?\s*["']?` + regexp.QuoteMeta(key[0]) + `["']?\s*:`)
	inner := outer
	if len(key) > 1 {
		name, _, _ := strings.Cut(key[1], " ")
		quoted := regexp.QuoteMeta(name)
		inner = regexp.MustCompile(`(^|[\s{,"'])` + quoted + `["']?\s*:|["']?name["']?\s*:\s*["']?` + quoted + `["']?\s*(,|}|#|$)`)
	}
	top := 0
	n := 0
	for line := range strings.Lines(text) {
		n++
		if top == 0 && outer.MatchString(strings.TrimRight(line, "\r\n")) {
			if top = n; len(key) == 1 {
				return n
			}
		}
		if top > 0 && inner.MatchString(strings.TrimRight(line, "\r\n")) {
			return n
		}
	}
	return top
}
