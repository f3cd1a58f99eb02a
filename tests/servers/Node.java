import java.nio.file.Files;
import java.nio.file.Path;
import org.codelibs.opensearch.runner.OpenSearchRunner;

/**
 * Runs one OpenSearch node until it is killed. Arguments: its folder, a file with lines of "key: value", and the classes
 * of plugins with commas between, if there are any.
 */
public class Node {
  public static void main(String[] arguments) throws Exception {
    var lines = Files.readAllLines(Path.of(arguments[1]));
    var plugins = arguments.length > 2 ? arguments[2] : "";
    var runner = new OpenSearchRunner();
    runner.setMaxHttpPort(-1); // the port is one of our settings
    runner.onBuild((number, settings) -> {
      for (String line : lines) {
        String[] pair = line.split(": ", 2);
        settings.put(pair[0], pair[1]);
      }
    });
    try {
      runner.build(
          "-basePath", arguments[0], "-numOfNode", "1", "-clusterName", "connectors-test", "-pluginTypes", plugins);
    } catch (Throwable failure) { // threads that are up already would keep the process
      failure.printStackTrace();
      Runtime.getRuntime().halt(1);
    }
    Thread.currentThread().join();
  }
}
