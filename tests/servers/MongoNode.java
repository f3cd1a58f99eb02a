import de.bwaldvogel.mongo.MongoServer;
import de.bwaldvogel.mongo.MongoVersion;
import de.bwaldvogel.mongo.backend.AbstractCursor;
import de.bwaldvogel.mongo.backend.Cursor;
import de.bwaldvogel.mongo.backend.CursorRegistry;
import de.bwaldvogel.mongo.backend.aggregation.Aggregation;
import de.bwaldvogel.mongo.backend.memory.MemoryBackend;
import de.bwaldvogel.mongo.bson.BsonTimestamp;
import de.bwaldvogel.mongo.bson.Document;
import de.bwaldvogel.mongo.exception.MongoServerError;
import de.bwaldvogel.mongo.exception.MongoSilentServerException;
import de.bwaldvogel.mongo.oplog.Oplog;
import de.bwaldvogel.mongo.wire.message.MongoMessage;
import java.time.Instant;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.UUID;
import java.util.concurrent.ConcurrentHashMap;
import java.util.stream.Stream;

/**
 * Runs an in-memory server that speaks MongoDB's protocol, until it is killed. Arguments: the port, 0 for a free one.
 *
 * <p>To what mongo-java-server can do it adds what a client of today looks at: session ids, a log of changes that is
 * followed for one collection or a whole database, ids of collections, refused credentials, and the part of the
 * command configureFailPoint (failCommand) that tests need.
 */
public class MongoNode extends MemoryBackend {
  private static final List<String> ENDINGS = List.of("endSessions", "commitTransaction", "abortTransaction");
  private final Map<String, UUID> collectionIds = new ConcurrentHashMap<>();
  private final Changes changes = new Changes();
  private Document failing = new Document();
  private int toSkip;
  private int toFail;

  public static void main(String[] arguments) throws Exception {
    MongoNode node = new MongoNode();
    node.version(new MongoVersion() {
      @Override public List<Integer> getVersionArray() { return List.of(4, 4, 0); }
      @Override public int getWireVersion() { return 9; }
    });
    node.enableOplog();
    MongoServer server = new MongoServer(node);
    server.bind("127.0.0.1", Integer.parseInt(arguments[0]));
    System.out.println("PORT " + server.getLocalAddress().getPort());
    System.out.flush();
    Thread.currentThread().join();
  }

  @Override protected Oplog createOplog() { return changes; }

  @Override public Document handleMessage(MongoMessage message) {
    Document query = message.getDocument();
    String command = query.keySet().iterator().next();
    if (isHello(command)) {
      Document asked = new Document("isMaster", 1).append("$db", "admin");
      return hello(super.handleCommand(message.getChannel(), "admin", "isMaster", asked));
    }
    if (command.equals("configureFailPoint")) {
      return configure(query);
    }
    if (command.equals("saslStart")) {
      throw new MongoServerError(18, "AuthenticationFailed", "Authentication failed.");
    }
    failWhenAsked(message, command, query);
    Document answer = ENDINGS.contains(command) ? new Document("ok", 1.0) : super.handleMessage(message);
    if (command.equals("listCollections")) {
      addCollectionIds(message.getDatabaseName(), answer);
    } else if (command.equals("aggregate")) {
      obeyBatchSize(query, answer);
    } else if (command.equals("renameCollection")) {
      changes.add(query.get(command).toString(), "rename", null).append("to", namespace(query.get("to").toString()));
      collectionIds.remove(query.get(command).toString());
    }
    addResumeToken(answer);
    return answer.append("operationTime", changes.now());
  }

  @Override public Document handleCommand(io.netty.channel.Channel channel, String db, String command, Document query) {
    Document answer = super.handleCommand(channel, isHello(command) ? "admin" : db, command, query);
    return isHello(command) ? hello(answer) : answer;
  }

  private static boolean isHello(String command) {
    return command.equalsIgnoreCase("hello") || command.equalsIgnoreCase("isMaster");
  }

  private static Document hello(Document answer) {
    return answer.append("isWritablePrimary", true).append("logicalSessionTimeoutMinutes", 30);
  }

  private static Document namespace(String name) {
    int dot = name.indexOf('.');
    return new Document("db", name.substring(0, dot)).append("coll", name.substring(dot + 1));
  }

  private synchronized Document configure(Document query) {
    failing = (Document) query.getOrDefault("data", new Document());
    Object mode = query.get("mode");
    toSkip = 0;
    toFail = mode.equals("alwaysOn") ? Integer.MAX_VALUE : 0;
    if (mode instanceof Document) {
      toSkip = ((Number) ((Document) mode).getOrDefault("skip", 0)).intValue();
      toFail = ((Number) ((Document) mode).getOrDefault("times", Integer.MAX_VALUE)).intValue();
    }
    return new Document("ok", 1.0);
  }

  private synchronized void failWhenAsked(MongoMessage message, String command, Document query) {
    boolean wanted = ((List<?>) failing.getOrDefault("failCommands", List.of())).contains(command);
    Object only = failing.get("namespace");
    if (wanted && only != null) {
      Object collection = command.equals("getMore") ? query.get("collection") : query.get(command);
      wanted = only.equals(message.getDatabaseName() + "." + collection);
    }
    if (!wanted || toFail == 0 || toSkip-- > 0) {
      return;
    }
    toSkip = 0;
    toFail--;
    if (Boolean.TRUE.equals(failing.get("closeConnection"))) {
      message.getChannel().close();
      throw new MongoSilentServerException("closed");
    }
    throw new MongoServerError(((Number) failing.get("errorCode")).intValue(), "FailPoint", "the fail point was met");
  }

  private void addCollectionIds(String db, Document answer) {
    for (Object entry : (List<?>) ((Document) answer.get("cursor")).get("firstBatch")) {
      Document collection = (Document) entry;
      UUID id = collectionIds.computeIfAbsent(db + "." + collection.get("name"), name -> UUID.randomUUID());
      ((Document) collection.get("info")).append("uuid", id);
    }
  }

  /** The server below answers an aggregation with everything at once, whatever was asked for. */
  private void obeyBatchSize(Document query, Document answer) {
    Document cursor = (Document) answer.get("cursor");
    Object size = ((Document) query.getOrDefault("cursor", new Document())).get("batchSize");
    List<Document> found = new ArrayList<>();
    ((List<?>) cursor.get("firstBatch")).forEach(document -> found.add((Document) document));
    if (size != null && ((Number) cursor.get("id")).longValue() == 0 && found.size() > ((Number) size).intValue()) {
      Rest rest = new Rest(getCursorRegistry(), found);
      cursor.append("firstBatch", rest.takeDocuments(((Number) size).intValue())).append("id", rest.getId());
    }
  }

  private void addResumeToken(Document answer) {
    if (answer.get("cursor") instanceof Document) {
      Document cursor = (Document) answer.get("cursor");
      Events events = changes.open.get(((Number) cursor.getOrDefault("id", 0L)).longValue());
      if (events != null) {
        cursor.append("postBatchResumeToken", Changes.token(events.position));
      }
    }
  }

  /** The log of changes, whole and in memory; the place of an event in it is its resume token. */
  private class Changes implements Oplog {
    private final List<Document> log = new ArrayList<>();
    private final Map<Long, Events> open = new ConcurrentHashMap<>();

    synchronized Document add(String name, String type, Object id) {
      Document event = new Document("_id", token(log.size() + 1)).append("operationType", type)
          .append("clusterTime", new BsonTimestamp(Instant.now(), log.size() + 1)).append("ns", namespace(name));
      if (id != null) {
        event.append("documentKey", new Document("_id", id));
      }
      log.add(event);
      return event;
    }

    synchronized BsonTimestamp now() { return new BsonTimestamp(Instant.now(), log.size()); }

    synchronized List<Document> since(int position) { return List.copyOf(log.subList(position, log.size())); }

    static Document token(int position) { return new Document("_data", String.format("%08x", position)); }

    @Override public void handleInsert(String name, List<Document> documents) {
      documents.forEach(document -> add(name, "insert", document.get("_id")));
    }

    @Override public void handleUpdate(String name, Document selector, Document update, List<Object> ids) {
      ids.forEach(id -> add(name, "update", id));
    }

    @Override public void handleDelete(String name, Document query, List<Object> ids) {
      ids.forEach(id -> add(name, "delete", id));
    }

    @Override public void handleDropCollection(String name) {
      add(name, "drop", null);
      collectionIds.remove(name);
    }

    @Override public Cursor createCursor(Document asked, String name, Aggregation stages) {
      Object after = asked.getOrDefault("startAfter", asked.get("resumeAfter"));
      int position = after == null ? since(0).size() : Integer.parseInt(((Document) after).get("_data").toString(), 16);
      if (position > since(0).size()) {
        throw new MongoServerError(286, "ChangeStreamHistoryLost", "the resume token is not in the log");
      }
      Events events = new Events(getCursorRegistry(), namespace(name), stages, position);
      open.put(events.getId(), events);
      return events;
    }
  }

  /** What is left of an aggregation's results. */
  private static class Rest extends AbstractCursor {
    private final List<Document> left;

    Rest(CursorRegistry registry, List<Document> left) {
      super(registry.generateCursorId());
      this.left = left;
      registry.add(this);
    }

    @Override public boolean isEmpty() { return left.isEmpty(); }

    @Override public List<Document> takeDocuments(int number) {
      List<Document> first = left.subList(0, Math.min(number, left.size()));
      List<Document> taken = List.copyOf(first);
      first.clear();
      return taken;
    }
  }

  /** One reader of the log. */
  private class Events extends AbstractCursor {
    private final Document wanted;
    private final Aggregation stages;
    private int position;

    Events(CursorRegistry registry, Document wanted, Aggregation stages, int position) {
      super(registry.generateCursorId());
      this.wanted = wanted;
      this.stages = stages;
      this.position = position;
      registry.add(this);
    }

    @Override public boolean isEmpty() { return false; }

    @Override public List<Document> takeDocuments(int number) {
      List<Document> taken = new ArrayList<>();
      for (Document event : changes.since(position)) {
        if (number > 0 && taken.size() == number) {
          break;
        }
        position++;
        if (concerns((Document) event.get("ns"))) {
          stages.runStagesAsStream(Stream.of(event.cloneDeeply())).forEach(taken::add);
        }
      }
      return taken;
    }

    private boolean concerns(Document ns) { // a whole database is asked for as collection 1
      return ns.get("db").equals(wanted.get("db"))
          && (wanted.get("coll").equals("1") || ns.get("coll").equals(wanted.get("coll")));
    }
  }
}
