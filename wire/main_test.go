package wire

import (
	"os"
	"testing"

	"github.com/braidstream/braid/internal/testkit/leaks"
)

func TestMain(m *testing.M) { os.Exit(leaks.Main(m)) }
