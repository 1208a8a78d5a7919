package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"reflect"
	"slices"
	"strings"

	"sigs.k8s.io/yaml"

	"github.com/braidstream/braid/internal/nearest"
)

// fileConfig is what --config FILE may hold (YAML or JSON). Flags on the command
// line win over it.
type fileConfig struct {
	DataDir          string            `json:"data-dir"`
	Listen           string            `json:"listen"`
	Listeners        []listener        `json:"listeners"`
	HTTP             string            `json:"http"`
	CatalogListen    string            `json:"catalog-listen"`
	CatalogEndpoints []string          `json:"catalog-endpoints"`
	Gateways         int               `json:"gateways"`
	LocalClusters    []string          `json:"local-clusters"`
	Zone             string            `json:"zone"`
	Insecure         bool              `json:"insecure"`
	Set              map[string]string `json:"set"`
}

// maxConfigFile bounds a configuration file, in bytes.
const maxConfigFile = 1 << 20

// readConfig reads and checks a configuration file. An unknown key is an error that
// names the nearest known one. content is the file as it is.
func readConfig(path string) (c fileConfig, content string, err error) {
	st, err := os.Stat(path)
	if err != nil {
		return c, "", usagef("--config: %v", err)
	}
	if st.Size() > maxConfigFile {
		return c, "", usagef("--config %s: %d bytes is too large for a configuration (at most %d)", path, st.Size(), maxConfigFile)
	}
	raw, err := os.ReadFile(path)
	if err != nil {
		return c, "", usagef("--config: %v", err)
	}
	asJSON, err := yaml.YAMLToJSON(raw)
	if err != nil {
		return c, "", usagef("--config %s is neither YAML nor JSON: %v", path, err)
	}
	in := &origin{path: path, text: string(raw)}
	var keys map[string]json.RawMessage
	if err := json.Unmarshal(asJSON, &keys); err != nil {
		return c, "", usagef("--config %s wants lines of KEY: VALUE, such as \"data-dir: /var/lib/braid\"", path)
	}
	known := []string{"data-dir", "listen", "listeners", "http", "catalog-listen", "catalog-endpoints",
		"gateways", "local-clusters", "zone", "insecure", "set"}
	for _, k := range slices.Sorted(maps.Keys(keys)) {
		if !slices.Contains(known, k) {
			return c, "", usagef("%s: unknown key %q%s", in.line(k), k, didYouMean(k, known))
		}
	}
	var each []map[string]json.RawMessage
	if len(keys["listeners"]) > 0 && json.Unmarshal(keys["listeners"], &each) == nil {
		options := append([]string{"name", "bind"}, listenerOptions...)
		for _, l := range each {
			for _, k := range slices.Sorted(maps.Keys(l)) {
				if !slices.Contains(options, k) {
					return c, "", usagef("%s: unknown key %q of a listener%s", in.line("listeners", k), k, didYouMean(k, options))
				}
			}
		}
	}
	if err := yaml.UnmarshalStrict(raw, &c); err != nil {
		var kind *json.UnmarshalTypeError
		if errors.As(err, &kind) {
			return c, "", usagef("%s wants %s, not %s", in.at(blamed(kind.Field, keys)...), wanted(kind.Type), given(kind.Value))
		}
		return c, "", usagef("--config %s: %v", path, err)
	}
	return c, string(raw), nil
}

// blamed is the path to the value of a wrong kind. A decoder names the map that the value is in, not its key.
func blamed(field string, keys map[string]json.RawMessage) []string {
	var values map[string]json.RawMessage
	if field == "set" && json.Unmarshal(keys["set"], &values) == nil {
		for _, k := range slices.Sorted(maps.Keys(values)) {
			if v := values[k]; len(v) > 0 && (v[0] == '[' || v[0] == '{') {
				return []string{"set", k}
			}
		}
	}
	return strings.Split(field, ".")
}

// given says in words which kind of value is there; kind is encoding/json's word for it.
func given(kind string) string {
	switch kind {
	case "array":
		return "a list"
	case "object":
		return "lines of KEY: VALUE"
	case "string":
		return "a text"
	case "bool":
		return "true or false"
	}
	if number, ok := strings.CutPrefix(kind, "number "); ok {
		return number
	}
	return "a " + kind
}

// wanted says in words which kind of value a key takes.
func wanted(t reflect.Type) string {
	switch t.Kind() {
	case reflect.Int:
		return "a whole number"
	case reflect.Bool:
		return "true or false"
	case reflect.Slice:
		return "a list"
	case reflect.Map, reflect.Struct:
		return "lines of KEY: VALUE below it"
	}
	return "a text"
}

// didYouMean is ": did you mean …?" or the list of what is known.
func didYouMean(name string, known []string) string {
	if n := nearest.Name(name, known); n != "" {
		return fmt.Sprintf(": did you mean %q?", n)
	}
	if len(known) <= 12 {
		return ": known are " + strings.Join(known, ", ")
	}
	return ""
}
