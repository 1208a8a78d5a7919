package gateway

import (
	"reflect"
	"strings"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/braidstream/braid/batch"
)

// names are what a request of the matrix asks about.
type askedNames struct {
	topic, group, txn, user string
	id                      [16]byte
}

// filled makes a request whose lists have one entry and whose names are the given.
func filled(req kmsg.Request, n askedNames) kmsg.Request {
	if d, ok := req.(interface{ Default() }); ok {
		d.Default()
	}
	fillValue(reflect.ValueOf(req).Elem(), "", n, 0)
	return req
}

func fillValue(v reflect.Value, field string, n askedNames, depth int) {
	if depth > 8 {
		return
	}
	name := func() string {
		switch {
		case strings.Contains(field, "Topic"), field == "ResourceName", field == "Name":
			return n.topic
		case strings.Contains(field, "Group"), strings.HasPrefix(field, "CoordinatorKey"):
			return n.group
		case strings.Contains(field, "Transactional"), strings.Contains(field, "TxnID"):
			return n.txn
		case strings.Contains(field, "User"), strings.Contains(field, "Principal"), field == "Match":
			return n.user
		}
		return "x"
	}
	switch v.Kind() {
	case reflect.Struct:
		for i := range v.NumField() {
			f := v.Type().Field(i)
			if f.Name == "Version" || f.Name == "UnknownTags" || f.Name == "ThrottleMillis" || !f.IsExported() {
				continue
			}
			below := f.Name
			if (f.Name == "Name" || f.Name == "Topics") && strings.Contains(v.Type().Name(), "Group") && f.Name == "Name" {
				below = "Group"
			}
			fillValue(v.Field(i), below, n, depth+1)
		}
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		if d, ok := v.Interface().(interface{ Default() }); ok {
			d.Default()
		}
		fillValue(v.Elem(), field, n, depth+1)
	case reflect.Slice:
		if v.Type().Elem().Kind() == reflect.Uint8 {
			if field == "Records" {
				b := batch.NewBuilder()
				b.Add(batch.Record{Value: []byte("v")})
				if out, err := b.Build(); err == nil {
					v.SetBytes(out)
				}
			}
			return
		}
		s := reflect.MakeSlice(v.Type(), 1, 1)
		if d, ok := s.Index(0).Addr().Interface().(interface{ Default() }); ok {
			d.Default()
		}
		fillValue(s.Index(0), field, n, depth+1)
		v.Set(s)
	case reflect.Array:
		if v.Type() == reflect.TypeFor[[16]byte]() {
			v.Set(reflect.ValueOf(n.id))
		}
	case reflect.String:
		v.SetString(name())
	case reflect.Bool:
		// Nothing is made by the way: a topic of the asked name would be the asker's own.
		v.SetBool(field == "ValidateOnly" || strings.HasPrefix(field, "Include"))
	case reflect.Int16:
		if field == "Acks" {
			v.SetInt(1)
		}
	case reflect.Int32:
		switch {
		case strings.Contains(field, "WaitMillis"):
			v.SetInt(1)
		case strings.Contains(field, "TimeoutMillis"):
			v.SetInt(10_000)
		case strings.Contains(field, "Bytes"):
			v.SetInt(1 << 20)
		}
	case reflect.Int8:
		if strings.Contains(field, "ResourceType") || field == "Type" {
			v.SetInt(2) // a topic
		}
		if field == "ResourcePatternType" {
			v.SetInt(3)
		}
		if field == "PermissionType" || field == "Operation" {
			v.SetInt(3)
		}
	}
}
