import java.io.BufferedReader;
import java.io.ByteArrayOutputStream;
import java.io.InputStreamReader;
import java.io.OutputStream;
import java.io.PrintStream;
import java.lang.reflect.InvocationTargetException;
import java.nio.charset.StandardCharsets;
import java.util.Arrays;
import java.util.Base64;

/**
 * Runs many of Kafka's command line tools in one process, since most of the time of one is spent on
 * the start of the JVM. Each line of the input is a main class and its arguments, separated by tabs;
 * each is answered by a line with the exit code and what was printed, in base64.
 */
public class Tools {
    static final class Exited extends RuntimeException {
        final int code;

        Exited(int code) {
            super("exit " + code, null, false, false);
            this.code = code;
        }
    }

    /** The code of a command's first exit: some tools catch what ends them, and exit once more. */
    static Integer exited;

    static void exit(int code) {
        if (exited == null) {
            exited = code;
        }
        throw new Exited(code);
    }

    public static void main(String[] argv) throws Exception {
        PrintStream answers = System.out;
        ByteArrayOutputStream printed = new ByteArrayOutputStream();
        // Scala's Console keeps the stream that it found first, so there is one for all commands.
        PrintStream capture = new PrintStream(new OutputStream() {
            @Override
            public synchronized void write(int b) {
                printed.write(b);
            }

            @Override
            public synchronized void write(byte[] b, int off, int len) {
                printed.write(b, off, len);
            }
        }, true, StandardCharsets.UTF_8);
        System.setOut(capture);
        System.setErr(capture);
        org.apache.kafka.common.utils.Exit.setExitProcedure((code, message) -> exit(code));
        org.apache.kafka.common.utils.Exit.setHaltProcedure((code, message) -> exit(code));
        BufferedReader in = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
        for (String line; (line = in.readLine()) != null;) {
            String[] words = line.split("\t", -1);
            printed.reset();
            exited = null;
            int code = 0;
            try {
                Class.forName(words[0]).getMethod("main", String[].class)
                    .invoke(null, (Object) Arrays.copyOfRange(words, 1, words.length));
            } catch (InvocationTargetException e) {
                if (!(e.getCause() instanceof Exited)) {
                    e.getCause().printStackTrace(capture);
                    code = 1;
                }
            } catch (Exception e) {
                e.printStackTrace(capture);
                code = 127;
            }
            if (exited != null) {
                code = exited;
            }
            capture.flush();
            answers.println(code + " " + Base64.getEncoder().encodeToString(printed.toByteArray()));
            answers.flush();
        }
    }
}
